"""A round as the server sees it: who takes part, what becomes of the clients' updates, and what it does with them."""

from ml_collections import ConfigDict

from cachefl_jax.config.compression import CODES
from cachefl_jax.config.field import Field, Part, Unused, only
from cachefl_jax.config.partition import FOUND
from cachefl_jax.config.ranges import CHOOSE, FINITE, all_named, at_least, finite, one_named, one_of, or_own, within
from cachefl_jax.config.secure import SECURE
from cachefl_jax.errors import UsageError

PARTICIPATIONS = {
    name: f"cachefl_jax.federation.participation:{name}" for name in ("cohort", "full", "poisson", "cyclic")
}
TRANSFORMS = {name: f"cachefl_jax.federation.transforms:{name}" for name in ("clip", "noise")} | CODES
AGGREGATIONS = {
    name: f"cachefl_jax.federation.aggregation:{name}" for name in ("mean", "uniform", "sum", "median", "trimmed_mean")
} | {name: f"cachefl_jax.privacy.secure.sums:{name}" for name in SECURE}
# They compare whole updates.
WHOLE = ("krum", "multi_krum", "geometric_median", "centred_clipping", "fools_gold", "fl_trust")
AGGREGATIONS |= {name: f"cachefl_jax.federation.robust:{name}" for name in WHOLE}
# FedAvg adds the mean change as it is. The others' beta1 is their paper's (arXiv 2003.00295), which tunes the learning
# rate by task; ours moves a key's number, 1 / sqrt(D), by at most a few percent a round, where 1 would replace it.
SERVER_DEFAULTS = {
    "sgd": {"learning_rate": 1.0, "momentum": 0.0},
    "adam": {"learning_rate": 3e-3, "momentum": 0.9},
    "adagrad": {"learning_rate": 3e-3, "momentum": 0.0},
    "yogi": {"learning_rate": 3e-3, "momentum": 0.9},
}


def check(config: ConfigDict) -> None:
    """Whether the cohort's size goes with the clients and with how they are drawn."""
    name, cohort, clients = config.participation.name, config.cohort, config.partition.clients
    unknown = config.partition.name in FOUND and not clients
    if cohort > clients and not unknown:
        raise UsageError("cohort", cohort, f"0 to partition.clients, {clients}", "lower it, or 0 for all clients")
    if name == "full" and cohort not in (0, clients):
        raise UsageError("cohort", cohort, "0 with participation.name=full, which takes all clients", "leave it out")
    if name in ("poisson", "cyclic") and not cohort:
        raise UsageError("cohort", 0, f"1 or more with participation.name={name}, clients of a round", "set it")
    rule = config.aggregation.name
    if rule in WHOLE and config.local.algorithm in ("scaffold", "fednova"):
        allowed = f"one by coordinate, or a mean, with local.algorithm={config.local.algorithm}"
        raise UsageError("aggregation.name", rule, f"{allowed}, whose updates are not changes of the params alone",
                         "local.algorithm=fedavg")  # fmt: skip


def server_numbers(server: ConfigDict) -> dict[str, float]:
    """The server optimizer's learning rate and momentum; -1 stands for its own."""
    own = SERVER_DEFAULTS.get(str(server.optimizer), SERVER_DEFAULTS["sgd"])
    return {name: usual if server[name] == -1 else server[name] for name, usual in own.items()}


# fmt: off
ROUND = Part((
    Field("participation.name", "cohort", "who takes part in a round: cohort clients, drawn anew; all of them; each "
          "with probability cohort / clients; or cohort clients in turn", *one_named(PARTICIPATIONS), CHOOSE),
    Field("cohort", 0, "clients a round, with poisson on average; 0 = all", *at_least(0), "0 takes all clients"),

    Field("updates.transforms", (), "what happens to a client's update before it is aggregated, in this order; all but "
          "clip and noise are how it travels",
          *all_named(TRANSFORMS), CHOOSE),
    Field("updates.clip_norm", 1.0, "clip: the largest L2 norm of a client's update",
          *finite(0, open_end=True), FINITE, traced=True),
    Field("updates.noise", 0.0, "noise: the standard deviation that each client adds to each number of its update",
          *finite(0), FINITE, traced=True),
    Field("aggregation.name", "mean", "how updates become one: mean weighted by rows, uniform mean, sum, or by "
          "coordinate their median or trimmed mean (arXiv 1803.01498); by whole updates Krum, multi-Krum, geometric "
          "median (1912.13445), centred clipping (2012.10333), FoolsGold (1808.04866), FLTrust by the server's images "
          "(2012.13995); secure_mean, secure_uniform: as secure sums", *one_named(AGGREGATIONS), CHOOSE),
    Field("aggregation.trim", 0.1, "trimmed_mean: the share of the clients that is cut at each end",
          *within(0, 0.5), "0 cuts nobody", traced=True),
    Field("aggregation.hostile", 0.2, "krum, multi_krum: the share of a round's clients that may be hostile",
          *within(0, 0.5), "less than half", traced=True),
    Field("aggregation.radius", 1.0, "centred_clipping: how far an update may pull the aggregate from the last round's",
          *finite(0, open_end=True), FINITE, traced=True),

    Field("server.optimizer", "sgd", "sgd: FedAvg, or FedAvgM with momentum; adam, adagrad, yogi: FedAdam, FedAdagrad, "
          "FedYogi (arXiv 2003.00295)", *one_of(*SERVER_DEFAULTS), CHOOSE),
    Field("server.learning_rate", -1.0, "-1 = the optimizer's own (cachefl_jax.config.SERVER_DEFAULTS)",
          *or_own(*finite(0)), FINITE, traced=True),
    Field("server.momentum", -1.0, "sgd's; beta1 of the others; -1 = the optimizer's own", *or_own(*within(0, 1)),
          FINITE, traced=True),
    Field("server.beta2", 0.99, "adam's and yogi's memory of squared updates", *within(0, 1), FINITE, traced=True),
    Field("server.tau", 1e-3, "adam's, adagrad's and yogi's adaptivity: the larger, the more like sgd",
          *finite(0, open_end=True), FINITE, traced=True),
), check, (
    Unused(("updates.clip_norm",), lambda config: "clip" in config.updates.transforms, "updates.transforms"),
    Unused(("updates.noise",), lambda config: "noise" in config.updates.transforms, "updates.transforms"),
    only(("aggregation.trim",), "aggregation.name", "trimmed_mean"),
    only(("aggregation.hostile",), "aggregation.name", "krum", "multi_krum"),
    only(("aggregation.radius",), "aggregation.name", "centred_clipping"),
    Unused(("server.tau",), lambda config: config.server.optimizer != "sgd", "server.optimizer"),
    only(("server.beta2",), "server.optimizer", "adam", "yogi"),
))
