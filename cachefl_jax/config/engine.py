"""How a round's clients are trained on the devices."""

from ml_collections import ConfigDict

from cachefl_jax.config.client import ALGORITHMS
from cachefl_jax.config.field import Field, Part, lookup, only
from cachefl_jax.config.ranges import CHOOSE, at_least, one_of
from cachefl_jax.config.round import AGGREGATIONS, TRANSFORMS
from cachefl_jax.errors import UsageError

STRATEGIES = ("scan", "chunk", "vmap", "dual")
PRECISIONS = ("float32", "float32_3x", "tf32")  # `cachefl_jax.precision` says what they mean
# What the dual strategy does exactly, of our components; a user's are the engine's to judge.
EXACT_IN_DUAL = {
    "local.algorithm": (ALGORITHMS, ("fedavg", "fednova")),
    "aggregation.name": (AGGREGATIONS, ("mean", "uniform", "sum")),
    "updates.transforms": (TRANSFORMS, ("clip",)),
}


def check(config: ConfigDict) -> None:
    """What training on coefficients, and keys that are shared, demand of other fields."""
    engine = config.engine
    if engine.devices % engine.class_devices:
        allowed = f"a divisor of engine.devices, {engine.devices}"
        mend = "choose one, or a multiple of it for engine.devices"
        raise UsageError("engine.class_devices", engine.class_devices, allowed, mend)
    if engine.strategy != "dual":
        return
    if engine.class_devices > 1:
        allowed = "1 with engine.strategy=dual, whose coefficients are all classes'"
        raise UsageError("engine.class_devices", engine.class_devices, allowed, "engine.strategy=auto, scan or chunk")
    if config.local.optimizer != "sgd":
        mend = "local.optimizer=sgd, or engine.strategy=auto"
        raise UsageError("engine.strategy", "dual", "with local.optimizer sgd: AdamW leaves the features' span", mend)
    for field, (ours, exact) in EXACT_IN_DUAL.items():
        value = lookup(config, field)
        for name in (value,) if isinstance(value, str) else value:
            if name in ours and name not in exact:
                allowed = f"with {field} {' | '.join(exact)}: {name} needs the update itself"
                raise UsageError("engine.strategy", "dual", allowed, "engine.strategy=auto, scan, chunk or vmap")


# fmt: off
ENGINE = Part((
    Field("engine.strategy", "auto", "how a round's clients are trained; auto: the best by experience, measured "
          "where a run is long enough to gain by it", *one_of("auto", *STRATEGIES), CHOOSE),
    Field("engine.client_chunk", 0, "clients side by side on a device; 0 = choose",
          *at_least(0), "0 lets the engine choose"),
    Field("engine.block_rows", 0, "rows that the dual strategy takes at a time; 0 = choose",
          *at_least(0), "0 lets the engine choose"),
    Field("engine.precision", "float32", "matrix products of training and accuracies: float32; float32_3x, three "
          "bfloat16 products of about its accuracy, faster where the device has them; tf32, 10 bits",
          *one_of(*PRECISIONS), CHOOSE),
    Field("engine.devices", 0, "devices that train; 0 = all; on a CPU each core is one",
          *at_least(0), "0 takes all there are"),
    Field("engine.class_devices", 1, "of these, devices that share one client's keys by classes, for a cache that one "
          "cannot hold", *at_least(1), "1 leaves a client's keys on one device"),
    Field("engine.rows", "auto", "where the clients' rows lie on several devices: copied to each, or dealt with their "
          "clients; auto: dealt where copies would take a quarter of an accelerator's memory",
          *one_of("auto", "copied", "dealt"), CHOOSE),
), check, (
    only(("engine.client_chunk",), "engine.strategy", "auto", "chunk", "dual"),
    only(("engine.block_rows",), "engine.strategy", "auto", "dual"),
))
