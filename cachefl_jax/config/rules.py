"""What one field of a config demands of another (`cachefl_jax.config`)."""

from ml_collections import ConfigDict

from cachefl_jax.config.components import COMPONENTS
from cachefl_jax.config.field import lookup
from cachefl_jax.config.fields import FOUND
from cachefl_jax.errors import UsageError
from cachefl_jax.templates import check_templates


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
    check_federation(config)
    check_dual(config)
    check_templates("clip.templates", config.clip.templates)
    check_templates("synthesis.prompts", config.synthesis.prompts)
    check_source(config)
    check_synthesis(config)
    if config.synthesis.source != "bank" and config.cache.keys_per_class > config.synthesis.images_per_class:
        allowed = f"1 to synthesis.images_per_class, {config.synthesis.images_per_class}"
        raise UsageError("cache.keys_per_class", config.cache.keys_per_class, allowed, "lower it, or draw more images")


def check_federation(config: ConfigDict) -> None:
    """What the parts of a round demand of other fields."""
    local, name, cohort = config.local, config.participation.name, config.cohort
    if name == "full" and cohort not in (0, config.partition.clients):
        raise UsageError("cohort", cohort, "0 with participation.name=full, which takes all clients", "leave it out")
    if name == "poisson" and not cohort:
        raise UsageError("cohort", 0, "1 or more with participation.name=poisson, which expects as many", "set it")
    if local.algorithm in ("scaffold", "fednova") and local.optimizer != "sgd":
        allowed = f"sgd with local.algorithm={local.algorithm}"
        raise UsageError("local.optimizer", local.optimizer, allowed, "local.optimizer=sgd, or local.algorithm=fedavg")
    if local.algorithm == "scaffold" and (local.momentum > 0 or not local.learning_rate):
        field, allowed = ("momentum", "0") if local.momentum > 0 else ("learning_rate", "above 0")
        allowed += " with local.algorithm=scaffold, whose control variates are the steps over the learning rate"
        raise UsageError(f"local.{field}", local[field], allowed, "correct it, or local.algorithm=fedavg")


EXACT_IN_DUAL = {  # what the dual strategy does exactly, of our components; a user's are the engine's to judge
    "local.algorithm": ("fedavg", "fednova"),
    "aggregation.name": ("mean", "uniform", "sum"),
    "updates.transforms": ("clip",),
}


def check_dual(config: ConfigDict) -> None:
    """What training on coefficients demands of other fields."""
    if config.engine.strategy != "dual":
        return
    if config.local.optimizer != "sgd":
        mend = "local.optimizer=sgd, or engine.strategy=auto"
        raise UsageError("engine.strategy", "dual", "with local.optimizer sgd: AdamW leaves the features' span", mend)
    for field, exact in EXACT_IN_DUAL.items():
        value = lookup(config, field)
        for name in (value,) if isinstance(value, str) else value:
            if name in COMPONENTS[field].table and name not in exact:
                allowed = f"with {field} {' | '.join(exact)}: {name} needs the update itself"
                raise UsageError("engine.strategy", "dual", allowed, "engine.strategy=auto, scan, chunk or vmap")


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
