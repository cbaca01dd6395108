"""What the server does with the aggregate of the updates."""

from ml_collections import ConfigDict

from cachefl_jax.config.field import Field, Part, Unused, only
from cachefl_jax.config.ranges import CHOOSE, FINITE, finite, one_of, or_own, within

# FedAvg adds the mean change as it is. The others' beta1 is their paper's (arXiv 2003.00295), which tunes the learning
# rate by task; ours moves a key's number, 1 / sqrt(D), by at most a few percent a round, where 1 would replace it.
SERVER_DEFAULTS = {
    "sgd": {"learning_rate": 1.0, "momentum": 0.0},
    "adam": {"learning_rate": 3e-3, "momentum": 0.9},
    "adagrad": {"learning_rate": 3e-3, "momentum": 0.0},
    "yogi": {"learning_rate": 3e-3, "momentum": 0.9},
}

# fmt: off
FIELDS = (
    Field("server.optimizer", "sgd", "sgd: FedAvg, or FedAvgM with momentum; adam, adagrad, yogi: FedAdam, FedAdagrad, "
          "FedYogi (arXiv 2003.00295)", *one_of(*SERVER_DEFAULTS), CHOOSE),
    Field("server.learning_rate", -1.0, "-1 = the optimizer's own (cachefl_jax.config.SERVER_DEFAULTS)",
          *or_own(*finite(0)), FINITE, traced=True),
    Field("server.momentum", -1.0, "sgd's; beta1 of the others; -1 = the optimizer's own", *or_own(*within(0, 1)),
          FINITE, traced=True),
    Field("server.beta2", 0.99, "adam's and yogi's memory of squared updates", *within(0, 1), FINITE, traced=True),
    Field("server.tau", 1e-3, "adam's, adagrad's and yogi's adaptivity: the larger, the more like sgd",
          *finite(0, open_end=True), FINITE, traced=True),
)
# fmt: on


def server_numbers(server: ConfigDict) -> dict[str, float]:
    """The server optimizer's learning rate and momentum; -1 stands for its own."""
    own = SERVER_DEFAULTS.get(str(server.optimizer), SERVER_DEFAULTS["sgd"])
    return {name: usual if server[name] == -1 else server[name] for name, usual in own.items()}


SERVER = Part(
    FIELDS,
    unused=(
        Unused(("server.tau",), lambda config: config.server.optimizer != "sgd", "server.optimizer"),
        only(("server.beta2",), "server.optimizer", "adam", "yogi"),
    ),
)
