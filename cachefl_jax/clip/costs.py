"""What the whole model costs, against which a cache is set: its parameters, its bytes, and the arithmetic of a step.

FLOPs are what XLA counts in the lowered program of one image or one text, as for a client's step (`cachefl_jax.costs`).
"""

import math
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from cachefl_jax.clip.checkpoint import is_open_clip
from cachefl_jax.clip.resnet import STRIDE
from cachefl_jax.clip.weights import abstract_clip
from cachefl_jax.flops import flops

IMAGE = ("vision_model", "visual_projection", "visual")  # parts of a model that an image passes
TEXT = ("text_model", "text_projection")


class TowerCosts(NamedTuple):
    """A tower with its projection, or both: arithmetic is that of one image, of one text, or of one of each."""

    parameters: int
    bytes: int  # of the parameters, in what they are kept in
    forward_flops: float
    backward_flops: float  # the gradients of all parameters, the forward pass not counted again


class ModelCosts(NamedTuple):
    """Both towers, and the whole model: what fine-tuning all of it trains and sends."""

    image: TowerCosts
    text: TowerCosts
    whole: TowerCosts


def tower_costs(source: pathlib.Path | nnx.Module) -> ModelCosts:
    """The costs of a model, or of a checkpoint's directory in float32, of which only the config is read.

    A text counts with the tower's full length, to which all are filled up.

    Raises UsageError: as `read_config` and `read_open_clip_config`."""
    if not isinstance(source, nnx.Module):
        source = abstract_of(pathlib.Path(source))
    length, side = source.text_model.embeddings.position_embedding.num_embeddings, image_side(source)
    image = costs_of(source, "image_features", IMAGE, jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32))
    text = costs_of(source, "text_features", TEXT, jax.ShapeDtypeStruct((1, length), jnp.int32))
    forward, backward = image.forward_flops + text.forward_flops, image.backward_flops + text.backward_flops
    return ModelCosts(image, text, TowerCosts(*size_of(nnx.state(source, nnx.Param)), forward, backward))


def abstract_of(directory: pathlib.Path) -> nnx.Module:
    """A checkpoint's model, with shapes in place of weights."""
    if not is_open_clip(directory):
        return abstract_clip(directory)
    from cachefl_jax.clip.open_clip import abstract_open_clip

    return abstract_open_clip(directory)


def image_side(model: nnx.Module) -> int:
    """Pixels a side of an image that fills the image tower's positions."""
    if hasattr(model, "visual"):
        return STRIDE * math.isqrt(model.visual.attnpool.positional_embedding.shape[0] - 1)
    embeddings = model.vision_model.embeddings
    patches = embeddings.position_embedding.num_embeddings - hasattr(embeddings, "class_embedding")
    return embeddings.patch_embedding.kernel_size[0] * math.isqrt(patches)


def costs_of(model: nnx.Module, method: str, parts: Sequence[str], given: jax.ShapeDtypeStruct) -> TowerCosts:
    """Costs of the model's `parts`, of which `method` makes a feature of `given`."""
    graph, state = nnx.split(model)
    state = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state)
    frozen, trained = nnx.split_state(state, lambda path, _: path[0] not in parts, ...)
    trained, statistics = nnx.split_state(trained, nnx.Param, ...)

    def feature(trained, frozen, statistics, given) -> jax.Array:
        return getattr(nnx.merge(graph, trained, frozen, statistics), method)(given).sum()

    given = trained, frozen, statistics, given
    forward, both = flops(feature, *given), flops(jax.value_and_grad(feature), *given)
    return TowerCosts(*size_of(trained), forward, both - forward)


def size_of(state: nnx.State) -> tuple[int, int]:
    """Parameters, and their bytes."""
    leaves = jax.tree.leaves(state)
    return sum(leaf.size for leaf in leaves), sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
