"""What each field of a config may be, and what one demands of another (`cachefl_jax.config`)."""

import math
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from cachefl_jax.errors import UsageError
from cachefl_jax.templates import check_templates

SOURCES = ("digits", "feature_bank", "image_folder", "hub", "idx")
SUITE = tuple(sorted(path.stem for path in (pathlib.Path(__file__).parent / "data" / "suite").glob("*.json")))
FOUND = ("natural", "given")  # partitions that bring their own number of clients
STRATEGIES = ("scan", "chunk", "vmap", "dual")  # cachefl_jax.federation's; this file must not wait for JAX to load
METHOD_NAMES = ("zero_shot", "cache_init", "cachefl", "local_only", "centralized")


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


def between(low: float, high: float, *, closed: bool = False) -> tuple[Callable[[Any], bool], str]:
    """Numbers between `low` and `high`, these two included where `closed`."""
    if closed:
        return lambda value: low <= value <= high, f"a number from {low:g} to {high:g}"
    return lambda value: low < value < high, f"a number between {low:g} and {high:g}"


def or_own(holds: Callable[[Any], bool], allowed: str) -> tuple[Callable[[Any], bool], str]:
    """These numbers, or -1 for the one that goes with the choice made in another field."""
    return lambda value: value == -1 or holds(value), f"{allowed}; or -1, the optimizer's own"


def three_splits(names: tuple[str, ...]) -> bool:
    given = [name for name in names if name]
    return len(names) == 3 and bool(names[0]) and len(set(given)) == len(given)


LAYOUTS = (
    "class", "class/site", "site/class", "split/class", "split/class/site", "split/site/class", "class/split",
    "site/split/class",
)  # fmt: skip
CHANGES = ("brightness", "contrast", "blur", "noise", "rotation", "jpeg")
SPLITS = "name what the source calls training, validation and test rows; '' for what it has not"
CHOOSE, RAISE, FINITE = "choose one of these", "raise it", "give a finite value in range"
RULES = (
    Rule("seed", lambda seed: 0 <= seed < 2**32, "a whole number from 0 to 4294967295", "choose another"),
    Rule("data.name", *one_of(*SOURCES, *SUITE), CHOOSE),
    Rule("data.shots", *at_least(0), "0 keeps all rows"),
    Rule("data.layout", *one_of("auto", *LAYOUTS), "auto tells the layouts apart by names and structure"),
    Rule("data.splits", three_splits, "three different names, the first not empty", SPLITS),
    Rule("data.validation_share", *within(0, 1), "0 makes no validation split"),
    Rule("data.test_share", *between(0, 1), "0.2 holds out a fifth of every class"),
    Rule("data.broken", *one_of("stop", "skip"), CHOOSE),
    Rule("data.max_pixels", *at_least(2), RAISE),
    Rule("clip.dtype", *one_of("float32", "bfloat16"), CHOOSE),
    Rule("clip.batch_size", *at_least(0), "0 lets the encoder choose"),
    Rule("clip.key_views", *at_least(0), "0 takes the plain images"),
    Rule("clip.train_views", *at_least(0), "0 takes the plain images"),
    Rule("clip.views_seed", *at_least(0), RAISE),
    Rule("synthesis.source", *one_of("pocket", "diffusers", "image_folder", "held_out", "bank"), CHOOSE),
    Rule("synthesis.images_per_class", *at_least(1), RAISE),
    Rule("synthesis.steps", *at_least(1), RAISE),
    Rule("synthesis.guidance", *finite(0), FINITE),
    Rule("partition.name", *one_of("iid", "dirichlet", "pathological", "shards", "quantity", *FOUND), CHOOSE),
    Rule("partition.clients", *at_least(0), RAISE),
    Rule("partition.concentration", *finite(0, open_end=True), "0.1 is a strong label skew, 100 is nearly IID"),
    Rule("partition.over", *one_of("classes", "clients"), CHOOSE),
    Rule("partition.classes_per_client", *at_least(1), RAISE),
    Rule("partition.shards_per_client", *at_least(1), RAISE),
    Rule("partition.quantity", *one_of("log_normal", "power_law", "dirichlet"), CHOOSE),
    Rule("partition.spread", *finite(0), "0 makes all clients alike"),
    Rule("partition.least", *at_least(1), "1 lets nobody go without"),
    Rule("partition.change", *one_of("none", *CHANGES, "mixed"), CHOOSE),
    Rule("partition.change_strength", *between(0, 1, closed=True), "0 changes nothing, 1 most"),
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
    Rule("server.learning_rate", *or_own(*finite(0)), FINITE),
    Rule("server.momentum", *or_own(*within(0, 1)), FINITE),
    Rule("rounds", *at_least(0), "0 evaluates the untuned cache"),
    Rule("cohort", *at_least(0), "0 takes all clients"),
    Rule("eval_every", *at_least(1), RAISE),
    Rule("checkpoint_every", *at_least(1), RAISE),
    Rule("engine.strategy", *one_of("auto", *STRATEGIES), CHOOSE),
    Rule("engine.client_chunk", *at_least(0), "0 lets the engine choose"),
    Rule("engine.block_rows", *at_least(0), "0 lets the engine choose"),
    Rule("engine.devices", *at_least(0), "0 takes all there are"),
)


def check_relations(config: ConfigDict) -> None:
    """What one field demands of another."""
    found = config.partition.name in FOUND
    if not config.partition.clients and not found:
        raise UsageError("partition.clients", 0, "a whole number, 1 or more", "0 is for partitions natural and given")
    if config.cohort > config.partition.clients and not (found and not config.partition.clients):
        allowed = f"0 to partition.clients, {config.partition.clients}"
        raise UsageError("cohort", config.cohort, allowed, "lower it, or 0 for all clients")
    if config.local.nesterov and not (config.local.optimizer == "sgd" and config.local.momentum > 0):
        mend = "local.optimizer=sgd and local.momentum=0.9, or local.nesterov=False"
        raise UsageError("local.nesterov", True, "SGD with momentum", mend)
    if config.engine.strategy == "dual" and config.local.optimizer != "sgd":
        mend = "local.optimizer=sgd, or engine.strategy=auto"
        raise UsageError("engine.strategy", "dual", "with local.optimizer sgd: AdamW leaves the features' span", mend)
    check_templates("clip.templates", config.clip.templates)
    check_templates("synthesis.prompts", config.synthesis.prompts)
    check_source(config)
    check_synthesis(config)
    if config.synthesis.source != "bank" and config.cache.keys_per_class > config.synthesis.images_per_class:
        allowed = f"1 to synthesis.images_per_class, {config.synthesis.images_per_class}"
        raise UsageError("cache.keys_per_class", config.cache.keys_per_class, allowed, "lower it, or draw more images")


def check_source(config: ConfigDict) -> None:
    """What the place that data come from demands of other fields."""
    data, partition = config.data, config.partition
    wanted = {
        "feature_bank": ("data.path", "the path of an .npz feature bank", "--config.data.path=X.npz"),
        "image_folder": ("data.path", "the folder that holds the images", "--config.data.path=DIR"),
        "idx": ("data.path", "the folder that holds the IDX files", "--config.data.path=DIR"),
        "hub": (
            "data.hub",
            "a data set's OWNER/NAME on the hub, or a folder that datasets saved",
            "--config.data.hub=...",
        ),
    }
    if data.name in wanted and not lookup(config, wanted[data.name][0]):
        field, allowed, mend = wanted[data.name]
        raise UsageError(field, "", allowed, mend)
    if data.validation_share + data.test_share >= 1:
        allowed = f"less than {1 - data.validation_share:g}, what data.validation_share leaves"
        raise UsageError("data.test_share", data.test_share, allowed, "lower one of them")
    if data.split_file and not data.path:
        raise UsageError("data.path", "", "the folder that the split file's paths start from", "--config.data.path=DIR")
    if partition.name == "given" and not partition.path:
        mend = "--config.partition.path=FILE, such as another run's"
        raise UsageError("partition.path", "", "a partition.npz, for partition.name=given", mend)
    if data.name == "feature_bank":
        for field, plain in (("partition.change", "none"), ("clip.key_views", 0), ("clip.train_views", 0)):
            if lookup(config, field) != plain:
                mend = f"--config.{field}={plain}, or bring images: data.name=image_folder"
                raise UsageError(field, lookup(config, field), f"{plain} for a feature bank, which has no images", mend)


def check_synthesis(config: ConfigDict) -> None:
    """Where the server's images may come from, for this data."""
    synthesis, name = config.synthesis, config.data.name
    if name == "feature_bank" or synthesis.source == "bank":
        if name != "feature_bank" or synthesis.source != "bank":
            allowed = "bank" if name == "feature_bank" else "pocket | diffusers | image_folder | held_out"
            raise UsageError(
                "synthesis.source", synthesis.source, allowed, f"data.name={name} takes its set from there"
            )
        return
    if synthesis.source == "pocket" and name != "digits":
        allowed = "diffusers | image_folder | held_out: the embedded generator draws digits alone"
        mend = "--config.synthesis.source=held_out needs nothing else"
        raise UsageError("synthesis.source", "pocket", allowed, mend)
    if synthesis.source == "diffusers" and not synthesis.pipeline:
        mend = "--config.synthesis.pipeline=DIR, or synthesis.source=held_out"
        raise UsageError("synthesis.pipeline", "", "a diffusers directory or hub name", mend)
    if synthesis.source == "image_folder" and not synthesis.path:
        raise UsageError("synthesis.path", "", "a folder of class folders", "--config.synthesis.path=DIR")


def lookup(config: ConfigDict, field: str) -> Any:
    """The value at a dotted path."""
    for name in field.split("."):
        config = config[name]
    return config
