"""What the whole model costs, against which a cache is set: its parameters, its bytes, and the arithmetic of a step.

Only products of matrices are counted: layer norms, softmax, activations and sums are of lower order in the width and
left out. A product of [m, k] and [k, n] is 2 m k n multiplications and additions.

Axis letters: T tokens, D features.
"""

import pathlib
from typing import NamedTuple

import jax
from flax import nnx

from cachefl_jax.clip.checkpoint import is_open_clip
from cachefl_jax.clip.model import CLIP, Encoder, VisionEmbeddings
from cachefl_jax.clip.siglip import PoolingHead, SigLIP
from cachefl_jax.clip.weights import abstract_clip


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


def tower_costs(source: pathlib.Path | CLIP | SigLIP) -> ModelCosts:
    """The costs of a model, or of a checkpoint's directory in float32, of which only the config is read.

    A text counts with the tower's full length, to which all are filled up.

    Raises UsageError: as `read_config`."""
    if not isinstance(source, nnx.Module):
        if is_open_clip(pathlib.Path(source)):
            from cachefl_jax.clip.open_clip import open_clip_costs

            return open_clip_costs(pathlib.Path(source))
        source = abstract_clip(pathlib.Path(source))
    if isinstance(source, SigLIP):
        pooling = pooling_flops(source.vision_model.head, token_count(source.vision_model))
        image = image_costs((source.vision_model,), pooling)
        text = text_costs((source.text_model,), product_flops(source.text_model.head))
    else:
        image = image_costs((source.vision_model, source.visual_projection), product_flops(source.visual_projection))
        text = text_costs((source.text_model, source.text_projection), product_flops(source.text_projection))
    return ModelCosts(image, text, whole_costs(source, image, text))


def image_costs(parts: tuple[nnx.Module, ...], last_flops: float) -> TowerCosts:
    """A transformer's image tower: `parts` are the tower and what follows it, of which one image takes `last_flops`."""
    tower = parts[0]
    patches = patch_flops(tower.embeddings)
    forward = patches + encoder_flops(tower.encoder, token_count(tower)) + last_flops
    return TowerCosts(*size_of(parts), forward, backward_flops(forward, patches))


def text_costs(parts: tuple[nnx.Module, ...], last_flops: float) -> TowerCosts:
    """A text tower, as `image_costs`; to look an embedding up is no arithmetic."""
    tower = parts[0]
    forward = encoder_flops(tower.encoder, token_count(tower)) + last_flops
    return TowerCosts(*size_of(parts), forward, backward_flops(forward))


def whole_costs(model: nnx.Module, image: TowerCosts, text: TowerCosts) -> TowerCosts:
    """Everything in the model, the logit scale too; one image and one text."""
    forward, backward = image.forward_flops + text.forward_flops, image.backward_flops + text.backward_flops
    return TowerCosts(*size_of((model,)), forward, backward)


def size_of(parts: tuple[nnx.Module, ...]) -> tuple[int, int]:
    """Parameters, and their bytes."""
    leaves = jax.tree.leaves([nnx.state(part, nnx.Param) for part in parts])
    return sum(leaf.size for leaf in leaves), sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


def backward_flops(forward: float, first: float = 0) -> float:
    """Two products for each of the forward pass: by the inputs and by the weights (of attention: by both factors).

    Args:
        forward: FLOPs of the forward pass.
        first: those of its first product, whose inputs are the pixels: no gradient is due for them.
    """
    return 2 * forward - first


def encoder_flops(encoder: Encoder, tokens: int) -> float:
    """One forward pass of all blocks over T tokens of width D, with an MLP of width M.

    A block projects four times, 2 T D D each, mixes by T x T scores, 2 T T D to make and 2 T T D to use, and has two
    layers of 2 T D M. A causal mask saves nothing: the scores that it hides are computed.
    """
    layer = encoder.layers[0]
    products = 4 * product_flops(layer.self_attn.q_proj) + product_flops(layer.mlp.fc1) + product_flops(layer.mlp.fc2)
    return len(encoder.layers) * (tokens * products + attention_flops(tokens, tokens, layer.mlp.fc1.in_features))


def attention_flops(queries: int, keys: int, width: int) -> float:
    """Scores of queries by keys, and the values mixed by them, all heads together."""
    return 2 * (2 * queries * keys * width)


def product_flops(layer: nnx.Linear) -> float:
    """A linear layer on one token."""
    return 2 * layer.in_features * layer.out_features


def patch_flops(embeddings: VisionEmbeddings) -> float:
    """Every patch of an image times the kernel [side, side, 3, D]."""
    convolution = embeddings.patch_embedding
    patches = embeddings.position_embedding.num_embeddings - hasattr(embeddings, "class_embedding")
    return 2 * patches * convolution.kernel.size


def pooling_flops(head: PoolingHead, tokens: int) -> float:
    """SigLIP's head on T tokens: keys and values, one query's attention, its projection and an MLP.

    The query itself is projected once a batch and left out.
    """
    width = head.mlp.fc1.in_features
    state = product_flops(head.attention.out_proj) + product_flops(head.mlp.fc1) + product_flops(head.mlp.fc2)
    return tokens * 2 * (2 * width * width) + attention_flops(1, tokens, width) + state


def token_count(tower: nnx.Module) -> int:
    """T: of an image, patches and class token; of a text, the longest."""
    return tower.embeddings.position_embedding.num_embeddings
