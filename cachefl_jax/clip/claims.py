"""What a config claims of its towers, held to the weights' names and shapes before any tower is built.

A tower of ten million layers, or of absurd widths, would take hours or all memory only to be refused tensor by tensor.
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from cachefl_jax.clip.architecture import CLIPConfig, TextConfig, VisionConfig
from cachefl_jax.clip.resnet import STRIDE, ResNetShape
from cachefl_jax.errors import UsageError

TAKE_OWN = "take config and weights of one model"


class Claims(NamedTuple):
    """A config's numbers, by what the file calls them."""

    layers: Mapping[str, tuple[str, int]]  # (what the names of the layers' tensors begin with, how many layers)
    sides: Mapping[str, int]  # of tensors


def config_claims(config: CLIPConfig) -> Claims:
    """Those of a ``config.json`` in Hugging Face's format."""
    vision, text = config.vision_config, config.text_config
    layers = {
        "vision_config.num_hidden_layers": ("vision_model.encoder.layers.", vision.num_hidden_layers),
        "text_config.num_hidden_layers": ("text_model.encoder.layers.", text.num_hidden_layers),
    }
    sides = {} if config.model_type == "siglip" else {"projection_dim": config.projection_dim}  # SigLIP does without
    for name, tower in (("vision_config", vision), ("text_config", text)):
        for field, side in tower_sides(tower).items():
            sides[f"{name}.{field}"] = side
    return Claims(layers, sides)


def tower_sides(tower: VisionConfig | TextConfig) -> dict[str, int]:
    sides = {"hidden_size": tower.hidden_size, "intermediate_size": tower.intermediate_size}
    if isinstance(tower, VisionConfig):
        return sides | {"patch_size": tower.patch_size, "image_size": (tower.image_size // tower.patch_size) ** 2}
    sides |= {"vocab_size": tower.vocab_size, "max_position_embeddings": tower.max_position_embeddings}
    return sides | ({"projection_size": tower.projection_size} if tower.projection_size else {})


def open_clip_claims(vision: ResNetShape | VisionConfig, text: TextConfig, features: int) -> Claims:
    """Those of an ``open_clip_config.json``."""
    if isinstance(vision, ResNetShape):
        layers = {
            f"vision_cfg.layers (stage {stage})": (f"visual.layer{stage}.", count)
            for stage, count in enumerate(vision.blocks, start=1)
        }
        sides = {"vision_cfg.width": vision.width, "vision_cfg.image_size": (vision.image_size // STRIDE) ** 2}
    else:
        layers = {"vision_cfg.layers": ("visual.transformer.resblocks.", vision.num_hidden_layers)}
        names = {"hidden_size": "width", "intermediate_size": "mlp_ratio"}
        sides = {f"vision_cfg.{names.get(field, field)}": side for field, side in tower_sides(vision).items()}
    layers["text_cfg.layers"] = ("transformer.resblocks.", text.num_hidden_layers)
    names = {"hidden_size": "width", "intermediate_size": "mlp_ratio", "max_position_embeddings": "context_length"}
    sides |= {f"text_cfg.{names.get(field, field)}": side for field, side in tower_sides(text).items()}
    return Claims(layers, sides | {"embed_dim": features})


def check_claims(claims: Claims, shapes: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Refuses a config (a message calls it `where`) that weights of these shapes, by their names, cannot belong to.

    Smaller differences are left to whoever fills the towers, and names every tensor.

    Raises UsageError: the weights have another number of layers, or no tensor with so large a side."""
    for field, (prefix, claimed) in claims.layers.items():
        count = layer_count(shapes, prefix)
        if count and claimed != count:
            raise UsageError(f"{where}: {field}", claimed, f"{count}, the layers in the weights", TAKE_OWN)
        if claimed > len(shapes):  # weights by other names
            raise UsageError(f"{where}: {field}", claimed, f"at most {len(shapes)}, the number of tensors", TAKE_OWN)
    largest = max((side for shape in shapes.values() for side in shape), default=0)
    for field, side in claims.sides.items():
        if side > largest:
            found = f"a size that takes tensors of {side} a side"
            raise UsageError(f"{where}: {field}", found, f"at most {largest}, the weights' longest side", TAKE_OWN)


def layer_count(names: Iterable[str], prefix: str) -> int:
    """How many layers have tensors whose names begin so."""
    pattern = re.compile(re.escape(prefix) + r"(\d+)\.")
    return len({match[1] for match in map(pattern.match, names) if match})
