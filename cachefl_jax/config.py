"""Every field of a run's config with its default, and the ranges they must keep to.

A config file in ``experiments/configs/`` starts from `default()` and changes what it needs. Names and meaning are a
contract with the scripts that set them; `RULES` says in one place what each may be.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from cachefl_jax.errors import UsageError

STRATEGIES = ("scan", "chunk", "vmap", "dual")  # cachefl_jax.federation's; this file must not wait for JAX to load
METHOD_NAMES = ("zero_shot", "cache_init", "cachefl", "local_only", "centralized")


def default() -> ConfigDict:
    """The config of the embedded digits, before tuning."""
    return ConfigDict(
        {
            "seed": 0,
            "data": {"name": "digits", "path": "", "shots": 0},
            "clip": {"checkpoint": "pocket", "templates": ()},  # texts with one {}; none = the data set's own
            "synthesis": {
                "source": "pocket",
                "images_per_class": 16,
                "pipeline": "",
                "prompts": (),  # texts with one {}, taken in turn; none = the data set's own templates
                "steps": 20,
                "guidance": 2.0,
            },
            "partition": {"name": "dirichlet", "clients": 20, "concentration": 0.1, "classes_per_client": 2},
            "method": "cachefl",
            "methods": METHOD_NAMES,
            "cache": {"keys_per_class": 16, "alpha": 1.0, "beta": 5.0},
            "local": {
                "optimizer": "adamw",
                "learning_rate": 1e-3,
                "weight_decay": 0.01,
                "momentum": 0.0,  # SGD's
                "nesterov": False,
                "epsilon": 1e-4,  # AdamW's, Tip-Adapter-F's value
                "proximal": 0.0,  # FedProx's mu
                "clip_norm": 0.0,  # largest norm of a step's gradient; 0 = any
                "batch_size": 32,  # 0 = all rows of a client in one batch
                "epochs": 1,
                "shuffle": True,
            },
            "server": {"optimizer": "sgd", "learning_rate": 1.0, "momentum": 0.0},
            "rounds": 20,
            "cohort": 0,  # clients a round; 0 = all
            "eval_every": 1,
            "checkpoint_every": 10,
            "engine": {
                "strategy": "auto",  # measured on the first round, where a run is long enough to gain by it
                "client_chunk": 0,  # clients side by side on a device; 0 = choose
                "block_rows": 0,  # rows that the dual strategy takes at a time; 0 = choose
                "devices": 0,  # 0 = all; on a CPU one, and one a core where auto measures
            },
        }
    )


class Rule(NamedTuple):
    """What one field may be."""

    field: str
    holds: Callable[[Any], bool]
    allowed: str
    mend: str


def one_of(*names: str) -> tuple[Callable[[Any], bool], str]:
    return lambda value: value in names, " | ".join(names)


def at_least(least: int) -> tuple[Callable[[Any], bool], str]:
    return lambda value: value >= least, f"a whole number, {least} or more"


def finite(low: float = -math.inf, *, open_end: bool = False) -> tuple[Callable[[Any], bool], str]:
    """Finite numbers from `low` up; without `low` itself where `open_end`."""

    def holds(value: float) -> bool:
        return math.isfinite(value) and (value > low if open_end else value >= low)

    bound = "" if low == -math.inf else f" above {low:g}" if open_end else f", {low:g} or more"
    return holds, f"a finite number{bound}"


def within(low: float, high: float) -> tuple[Callable[[Any], bool], str]:
    """Numbers from `low` up to, not including, `high`."""
    return lambda value: low <= value < high, f"a number from {low:g} up to (not including) {high:g}"


CHOOSE, RAISE, FINITE = "choose one of these", "raise it", "give a finite value in range"
RULES = (
    Rule("seed", *at_least(0), RAISE),
    Rule("data.name", *one_of("digits", "feature_bank"), CHOOSE),
    Rule("data.shots", *at_least(0), "0 keeps all rows"),
    Rule("synthesis.source", *one_of("pocket", "diffusers", "bank"), CHOOSE),
    Rule("synthesis.images_per_class", *at_least(1), RAISE),
    Rule("synthesis.steps", *at_least(1), RAISE),
    Rule("synthesis.guidance", *finite(0), FINITE),
    Rule("partition.name", *one_of("iid", "dirichlet", "pathological"), CHOOSE),
    Rule("partition.clients", *at_least(1), RAISE),
    Rule("partition.concentration", *finite(0, open_end=True), "0.1 is a strong label skew, 100 is nearly IID"),
    Rule("partition.classes_per_client", *at_least(1), RAISE),
    Rule("method", *one_of("cachefl"), CHOOSE),
    Rule("cache.keys_per_class", *at_least(1), "raise it to 1 or more"),
    Rule("cache.alpha", *finite(), FINITE),
    Rule("cache.beta", *finite(), FINITE),
    Rule("local.optimizer", *one_of("adamw", "sgd"), CHOOSE),
    Rule("local.learning_rate", *finite(0), FINITE),
    Rule("local.weight_decay", *finite(0), FINITE),
    Rule("local.momentum", *within(0, 1), FINITE),
    Rule("local.epsilon", *finite(0, open_end=True), FINITE),
    Rule("local.proximal", *finite(0), FINITE),
    Rule("local.clip_norm", *finite(0), "0 clips nothing"),
    Rule("local.batch_size", *at_least(0), "0 trains on all rows of a client at once"),
    Rule("local.epochs", *at_least(1), RAISE),
    Rule("server.optimizer", *one_of("sgd", "adam"), CHOOSE),
    Rule("server.learning_rate", *finite(0), FINITE),
    Rule("server.momentum", *within(0, 1), FINITE),
    Rule("rounds", *at_least(0), "0 evaluates the untuned cache"),
    Rule("cohort", *at_least(0), "0 takes all clients"),
    Rule("eval_every", *at_least(1), RAISE),
    Rule("checkpoint_every", *at_least(1), RAISE),
    Rule("engine.strategy", *one_of("auto", *STRATEGIES), CHOOSE),
    Rule("engine.client_chunk", *at_least(0), "0 lets the engine choose"),
    Rule("engine.block_rows", *at_least(0), "0 lets the engine choose"),
    Rule("engine.devices", *at_least(0), "0 takes all there are"),
)


def resolve(config: ConfigDict) -> ConfigDict:
    """A validated copy with what follows from other fields filled in: a bank brings its own synthetic set.

    Raises:
        UsageError: names the first field that is wrong.
    """
    config = config.copy_and_resolve_references()
    check_types(config, default())
    if config.data.name == "feature_bank":
        config.synthesis.source = "bank"
    validate(config)
    return config


def validate(config: ConfigDict) -> None:
    """Checks names, types, ranges, and the relations that need no data.

    Raises:
        UsageError: names the first field that is wrong.
    """
    check_types(config, default())
    for rule in RULES:
        value = lookup(config, rule.field)
        if not rule.holds(value):
            raise UsageError(rule.field, value, rule.allowed, rule.mend)
    for name in config.methods:
        if name not in METHOD_NAMES:
            raise UsageError("methods", name, ", ".join(METHOD_NAMES), "drop it from the list")
    check_relations(config)


def check_relations(config: ConfigDict) -> None:
    """What one field demands of another."""
    if config.cohort > config.partition.clients:
        allowed = f"0 to partition.clients, {config.partition.clients}"
        raise UsageError("cohort", config.cohort, allowed, "lower it, or 0 for all clients")
    if config.local.nesterov and not (config.local.optimizer == "sgd" and config.local.momentum > 0):
        mend = "local.optimizer=sgd and local.momentum=0.9, or local.nesterov=False"
        raise UsageError("local.nesterov", True, "SGD with momentum", mend)
    if config.engine.strategy == "dual" and config.local.optimizer != "sgd":
        mend = "local.optimizer=sgd, or engine.strategy=auto"
        raise UsageError("engine.strategy", "dual", "with local.optimizer sgd: AdamW leaves the features' span", mend)
    banked = config.data.name == "feature_bank"
    if banked and not config.data.path:
        raise UsageError("data.path", "", "the path of an .npz feature bank", "--config.data.path=X.npz")
    if banked != (config.synthesis.source == "bank"):
        allowed = "bank" if banked else "pocket | diffusers"
        mend = f"data.name={config.data.name} takes its synthetic set from there"
        raise UsageError("synthesis.source", config.synthesis.source, allowed, mend)
    if config.synthesis.source == "diffusers" and not config.synthesis.pipeline:
        mend = "--config.synthesis.pipeline=DIR, or synthesis.source=pocket"
        raise UsageError("synthesis.pipeline", "", "a diffusers directory or hub name", mend)
    if config.synthesis.source != "bank" and config.cache.keys_per_class > config.synthesis.images_per_class:
        allowed = f"1 to synthesis.images_per_class, {config.synthesis.images_per_class}"
        raise UsageError("cache.keys_per_class", config.cache.keys_per_class, allowed, "lower it, or draw more images")


def check_types(config: ConfigDict, expected: ConfigDict, prefix: str = "") -> None:
    """Every field of `expected`, of its type, and no other."""
    for name in config:
        if name not in expected:
            raise UsageError(prefix + name, config[name], f"fields {', '.join(expected)}", "correct the name")
    for name, sample in expected.items():
        field = prefix + name
        if name not in config:
            raise UsageError(field, "nothing", type(sample).__name__, "start from cachefl_jax.config.default()")
        value = config[name]
        if isinstance(sample, ConfigDict):
            if not isinstance(value, ConfigDict):
                raise UsageError(field, value, "a group of fields", "start from cachefl_jax.config.default()")
            check_types(value, sample, f"{field}.")
        elif not fits(value, sample):
            raise UsageError(field, value, type(sample).__name__, "give a value of that type")


def fits(value: Any, sample: Any) -> bool:
    """Whether `value` may stand where `sample` does; a whole number may stand for a float, a list for a tuple."""
    if isinstance(sample, tuple):
        return isinstance(value, (tuple, list)) and all(isinstance(item, str) for item in value)
    if isinstance(sample, float):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is type(sample)


def lookup(config: ConfigDict, field: str) -> Any:
    """The value at a dotted path."""
    for name in field.split("."):
        config = config[name]
    return config


def differences(left: dict, right: dict, prefix: str = "") -> list[str]:
    """Dotted names of the fields in which two resolved configs differ."""
    found = []
    for name in sorted(left.keys() | right.keys()):
        a, b = left.get(name), right.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f"{prefix}{name}.")
        elif a != b:
            found.append(prefix + name)
    return found
