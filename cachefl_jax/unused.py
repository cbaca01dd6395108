"""Settings of a config that do nothing, because another setting leaves them no part: said, so that nobody believes that
they had an effect."""

from collections.abc import Callable
from typing import NamedTuple

from ml_collections import ConfigDict

from cachefl_jax.config import default
from cachefl_jax.config.fields import SUITE
from cachefl_jax.config.rules import lookup
from cachefl_jax.data.schemes import SCHEMES


class Part(NamedTuple):
    """Fields that matter only in some configs."""

    fields: tuple[str, ...]
    matter: Callable[[ConfigDict], bool]
    decided_by: str  # the field that leaves them no part


def scheme_of(field: str) -> Callable[[ConfigDict], bool]:
    """Whether the partition's scheme reads `field` of its group."""
    return lambda config: config.partition.name in SCHEMES and field in SCHEMES[config.partition.name].fields


def draws(config: ConfigDict) -> bool:
    return config.synthesis.source in ("pocket", "diffusers")


def from_images(config: ConfigDict) -> bool:
    return config.data.name != "feature_bank"


def from_files(config: ConfigDict) -> bool:
    return config.data.name not in ("feature_bank", "digits")


def from_hub(config: ConfigDict) -> bool:
    return config.data.name == "hub" or (config.data.name in SUITE and not config.data.path)


IMAGES = ("clip.checkpoint", "clip.templates", "clip.dtype", "clip.batch_size", "data.test_share")
FILES = ("data.splits", "data.class_names", "data.broken", "data.group_column", "data.split_file")
HUB = ("data.hub", "data.hub_config", "data.image_column", "data.label_column")
PARTS = (
    Part(("local.momentum",), lambda config: config.local.optimizer == "sgd", "local.optimizer"),
    Part(("local.epsilon",), lambda config: config.local.optimizer == "adamw", "local.optimizer"),
    Part(("local.shuffle",), lambda config: config.local.batch_size > 0, "local.batch_size"),
    Part(("partition.over",), scheme_of("over"), "partition.name"),
    Part(("partition.concentration",), scheme_of("concentration"), "partition.name"),
    Part(("partition.classes_per_client",), scheme_of("classes_per_client"), "partition.name"),
    Part(("partition.shards_per_client",), scheme_of("shards_per_client"), "partition.name"),
    Part(("partition.quantity", "partition.spread"), scheme_of("quantity"), "partition.name"),
    Part(("partition.path",), lambda config: config.partition.name == "given", "partition.name"),
    Part(("partition.change_strength",), lambda config: config.partition.change != "none", "partition.change"),
    Part(("synthesis.path",), lambda config: config.synthesis.source == "image_folder", "synthesis.source"),
    Part(("synthesis.pipeline",), lambda config: config.synthesis.source == "diffusers", "synthesis.source"),
    Part(("synthesis.prompts", "synthesis.steps", "synthesis.guidance"), draws, "synthesis.source"),
    Part(("synthesis.images_per_class",), lambda config: config.synthesis.source != "bank", "synthesis.source"),
    Part(IMAGES, from_images, "data.name"),
    Part(("data.path",), lambda config: config.data.name != "digits", "data.name"),
    Part(FILES, from_files, "data.name"),
    Part(HUB, from_hub, "data.name"),
    Part(("clip.views_seed",), lambda config: config.clip.key_views + config.clip.train_views > 0, "clip.key_views"),
    Part(("server.tau",), lambda config: config.server.optimizer != "sgd", "server.optimizer"),
    Part(("server.beta2",), lambda config: config.server.optimizer in ("adam", "yogi"), "server.optimizer"),
    Part(("updates.clip_norm",), lambda config: "clip" in config.updates.transforms, "updates.transforms"),
    Part(("updates.noise",), lambda config: "noise" in config.updates.transforms, "updates.transforms"),
    Part(("aggregation.trim",), lambda config: config.aggregation.name == "trimmed_mean", "aggregation.name"),
    Part(("engine.client_chunk",), lambda config: config.engine.strategy not in ("scan", "vmap"), "engine.strategy"),
    Part(("engine.block_rows",), lambda config: config.engine.strategy in ("auto", "dual"), "engine.strategy"),
)


def unused(config: ConfigDict) -> list[str]:
    """A sentence for each field that decides: what, away from its default, does nothing because of it."""
    usual, idle = default(), {}
    for part in PARTS:
        if not part.matter(config):
            changed = [field for field in part.fields if lookup(config, field) != lookup(usual, field)]
            idle.setdefault(part.decided_by, []).extend(changed)
    if config.partition.name == "quantity":  # whose laws read one number each
        other = "spread" if config.partition.quantity == "dirichlet" else "concentration"
        if config.partition[other] != usual.partition[other]:
            idle.setdefault("partition.quantity", []).append(f"partition.{other}")
    return [
        f"{', '.join(f'{field}={lookup(config, field)}' for field in fields)} "
        f"{'does' if len(fields) == 1 else 'do'} nothing under {decider}={lookup(config, decider)}."
        for decider, fields in idle.items()
        if fields
    ]
