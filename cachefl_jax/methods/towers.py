"""What methods have in common that tune a CLIP's towers: the model taken apart, and unit features of it.

A method of these reads images, so every step passes them through the image tower. Training is in float32, the params
are kept so, and matrix products are in what the run's encoder computes in (`clip.dtype`).

Axis letters: B batch, N classes, P templates, T tokens, D features, H W image.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from cachefl_jax.clip import Encoder, image_part
from cachefl_jax.clip.encoding import normalisation, normalised
from cachefl_jax.config import Field
from cachefl_jax.config.ranges import at_least
from cachefl_jax.errors import UsageError
from cachefl_jax.methods.method import Rows, Server, text_logits, text_of
from cachefl_jax.methods.prompt_fl import by_blocks
from cachefl_jax.precision import full_precision

AT_ONCE = Field(
    "towers.images_at_once", 0, "images of a batch that pass a tower at once; with fewer than the batch, each lot is "
    "computed again for the gradient: a third more arithmetic, and memory for one lot. 0 = the whole batch",
    *at_least(0), "0 takes the whole batch",
)  # fmt: skip
TEXT_TOKENS = 2**11  # that pass the text tower at once, for a gradient


class Towers(NamedTuple):
    """A run's CLIP, or its image tower, without what a method trains of it."""

    graph: nnx.GraphDef
    arrays: dict[str, Any]
    numbers: tuple[jax.Array, ...]  # that pixels are normalised by

    def model(self, params: dict[str, Any] | None = None) -> nnx.Module:
        """The model with these params in their places."""
        return nnx.merge(self.graph, params or {}, self.arrays)


class Tuned(NamedTuple):
    """What is frozen where class weights are."""

    towers: Towers  # the image tower's
    text: jax.Array  # [N, D] class weights
    logit_scale: jax.Array  # []
    scale: jax.Array | float = 1.0  # [] of what is added


def taken_apart(encoder: Encoder, config: ConfigDict, trained: Any = False) -> tuple[Towers, dict[str, Any]]:
    """(an encoder's model without what is trained of it, that in float32).

    `trained`: what the params are, a filter of `flax.nnx.split`."""
    model = nnx.merge(*nnx.split(encoder.model))  # another module of the same arrays
    model.images_at_once = config.towers.images_at_once  # static, as the model's sizes are
    graph, own, others = nnx.split(model, trained, ...)
    own = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), nnx.to_pure_dict(own))
    return Towers(graph, nnx.to_pure_dict(others), normalisation(encoder.preparation)), own


def image_tower(server: Server, config: ConfigDict) -> Towers:
    """The run's image tower, all of it frozen."""
    return taken_apart(image_part(server.encoder()), config)[0]


def transformer(server: Server, method: str) -> nnx.Module:
    """The run's image tower, a vision transformer. Raises UsageError: it is none."""
    model = server.encoder().model
    if not hasattr(model, "vision_model"):
        allowed = "a method for residual networks: it tunes a vision transformer's blocks"
        raise UsageError("method", method, allowed, "method=full_fine_tuning, or the clip.checkpoint of a ViT")
    return model.vision_model


def tuned(server: Server, config: ConfigDict, scale: float = 1.0) -> Tuned:
    """What a method holds frozen that tunes the image tower by something added."""
    return Tuned(image_tower(server, config), *text_of(server), np.float32(scale))


def image_logits(model: nnx.Module, frozen: Tuned, rows: Rows) -> jax.Array:
    """s f[b] . text[n], [B, N], of the features that a model gives of the images."""
    return text_logits(frozen, Rows(rows.labels, image_features(model, frozen.towers.numbers, rows.images)))


def image_features(model: nnx.Module, numbers: tuple[jax.Array, ...], images: jax.Array) -> jax.Array:
    """Unit features [B, D] of images [B, H, W, 3] uint8."""
    compute = lambda images: unit(model.image_features(normalised(images, numbers)))  # noqa: E731
    return by_blocks(compute, (images,), model.images_at_once or len(images))


def class_weights(model: nnx.Module, ids: jax.Array) -> jax.Array:
    """Unit class weights [N, D] of token ids [N, P, T]: the mean of each class's unit text features.

    Many texts pass the tower block by block, and again for the gradient: memory is that of a block."""
    texts = ids.reshape(-1, ids.shape[-1])
    features = by_blocks(model.text_features, (texts,), max(TEXT_TOKENS // ids.shape[-1], 1))
    with full_precision():
        return unit(unit(features).reshape(*ids.shape[:2], -1).mean(axis=1))


def unit(features: jax.Array) -> jax.Array:
    """Rows of length 1."""
    return features / jnp.linalg.norm(features, axis=-1, keepdims=True)
