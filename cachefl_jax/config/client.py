"""What a client does in a round."""

from ml_collections import ConfigDict

from cachefl_jax.config.compression import CODES
from cachefl_jax.config.field import Field, Part, Unused, only
from cachefl_jax.config.ranges import CHOOSE, FINITE, NONE, RAISE, SWITCH, at_least, finite, one_named, one_of, within
from cachefl_jax.errors import UsageError

ALGORITHMS = {name: f"cachefl_jax.federation.algorithms:{name}" for name in ("fedavg", "scaffold", "fednova", "ditto")}
OPTIMIZERS = ("adamw", "sgd")


def check(config: ConfigDict) -> None:
    """What algorithm and momentum demand of the optimizer."""
    local = config.local
    if local.nesterov and not (local.optimizer == "sgd" and local.momentum > 0):
        mend = "local.optimizer=sgd and local.momentum=0.9, or local.nesterov=False"
        raise UsageError("local.nesterov", True, "SGD with momentum", mend)
    if local.algorithm in ("scaffold", "fednova") and local.optimizer != "sgd":
        allowed = f"sgd with local.algorithm={local.algorithm}"
        raise UsageError("local.optimizer", local.optimizer, allowed, "local.optimizer=sgd, or local.algorithm=fedavg")
    if local.algorithm == "scaffold" and (local.momentum > 0 or not local.learning_rate):
        field, allowed = ("momentum", "0") if local.momentum > 0 else ("learning_rate", "above 0")
        allowed += " with local.algorithm=scaffold, whose control variates are the steps over the learning rate"
        raise UsageError(f"local.{field}", local[field], allowed, "correct it, or local.algorithm=fedavg")
    if local.algorithm == "scaffold":
        check_means(config)


def check_means(config: ConfigDict) -> None:
    """Whether the server's control variate stays the mean of the clients', by our components.

    Where it does not, training rests where the clients' mean gradient is not zero.
    """
    mend = "leave it out, or local.algorithm=fedavg"
    allowed = "{} with local.algorithm=scaffold, whose c is the mean of all c_i"
    if config.aggregation.name in ("median", "trimmed_mean"):
        name = config.aggregation.name
        raise UsageError("aggregation.name", name, allowed.format("mean, uniform or sum"), mend)
    for name in config.updates.transforms:
        if name in ("clip", "noise", *CODES):
            what = "no encoding" if name in CODES else "neither clip nor noise"
            raise UsageError("updates.transforms", name, allowed.format(what), mend)


# fmt: off
CLIENT = Part((
    Field("local.algorithm", "fedavg", "what a client does with its rows: FedAvg (FedProx with local.proximal), "
          "SCAFFOLD (arXiv 1910.06378), FedNova (2007.07481), Ditto (2012.04221): FedAvg beside a model of each "
          "client's own, by which it is scored", *one_named(ALGORITHMS), CHOOSE),
    Field("local.optimizer", "adamw", "what a client trains with", *one_of(*OPTIMIZERS), CHOOSE),
    Field("local.learning_rate", 1e-3, "the client's", *finite(0), FINITE, traced=True),
    Field("local.weight_decay", 0.01, "AdamW's, decoupled; SGD's, added to the gradient",
          *finite(0), FINITE, traced=True),
    Field("local.momentum", 0.0, "SGD's", *within(0, 1), FINITE, traced=True),
    Field("local.nesterov", False, "SGD with Nesterov's momentum", *SWITCH, NONE),
    Field("local.epsilon", 1e-4, "AdamW's; Tip-Adapter-F's value", *finite(0, open_end=True), FINITE, traced=True),
    Field("local.proximal", 0.0, "FedProx's mu", *finite(0), FINITE, traced=True),
    Field("local.ditto", 0.1, "Ditto's lambda: how strongly a client's own model is pulled to the server's",
          *finite(0), FINITE, traced=True),
    Field("local.clip_norm", 0.0, "largest norm of a step's gradient; 0 = any",
          *finite(0), "0 clips nothing", traced=True),
    Field("local.batch_size", 32, "rows a step; 0 = all rows of a client in one batch",
          *at_least(0), "0 trains on all rows of a client at once"),
    Field("local.epochs", 1, "how often a client goes through its rows in a round", *at_least(1), RAISE),
    Field("local.shuffle", True, "rows in a new order every epoch", *SWITCH, NONE),
), check, (
    only(("local.momentum",), "local.optimizer", "sgd"),
    only(("local.epsilon",), "local.optimizer", "adamw"),
    only(("local.ditto",), "local.algorithm", "ditto"),
    Unused(("local.shuffle",), lambda config: config.local.batch_size > 0, "local.batch_size"),
))
