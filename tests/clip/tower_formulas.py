"""What the towers' products of matrices take, by formula: what `cachefl_jax.clip.tower_costs` is held to.

A product of [m, k] and [k, n] is 2 m k n multiplications and additions. Layer norms, softmax, activations and sums are
of lower order in the width and left out. Axis letters: T tokens, D features.
"""

from collections.abc import Iterator
from typing import NamedTuple

from flax import nnx

from cachefl_jax.clip import SigLIP
from cachefl_jax.clip.model import Encoder, VisionEmbeddings
from cachefl_jax.clip.resnet import EXPANSION, STRIDE, ResNetShape
from cachefl_jax.clip.siglip import PoolingHead


def transformer_flops(model: nnx.Module, tower: str) -> tuple[float, float]:
    """(forward, backward) of one image or one text, as `tower` says."""
    part = model.vision_model if tower == "image" else model.text_model
    tokens = token_count(part)
    if isinstance(model, SigLIP):
        last = pooling_flops(part.head, tokens) if tower == "image" else product_flops(part.head)
    else:
        last = product_flops(model.visual_projection if tower == "image" else model.text_projection)
    first = patch_flops(part.embeddings) if tower == "image" else 0
    forward = first + encoder_flops(part.encoder, tokens) + last
    return forward, 2 * forward - first  # no gradient is due for the pixels


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


class Convolution(NamedTuple):
    """One convolution with its batch norm, as far as its costs go."""

    inputs: int
    outputs: int
    kernel: int  # pixels a side
    side: int  # of the map that it makes
    stride: int = 1

    @property
    def flops(self) -> int:
        """Of one image; the padding's zeros are not multiplied, which spares 1 % at 56 pixels a side and 18 % at 7."""
        outside = 0 if self.kernel == 1 else 2 // self.stride  # taps of a row of outputs that fall into the padding
        taps = self.kernel * self.side - outside
        return 2 * self.inputs * self.outputs * taps**2


def convolutions(shape: ResNetShape) -> Iterator[Convolution]:
    """Every convolution of the tower, the one that sees the pixels first."""
    half, side = shape.width // 2, shape.image_size // 2
    yield Convolution(3, half, 3, side, stride=2)
    yield Convolution(half, half, 3, side)
    yield Convolution(half, shape.width, 3, side)
    inputs, side = shape.width, side // 2
    for blocks, (inner, first_stride) in zip(shape.blocks, shape.stages, strict=True):
        for block in range(blocks):
            stride, outputs = first_stride if block == 0 else 1, inner * EXPANSION
            yield Convolution(inputs, inner, 1, side)
            yield Convolution(inner, inner, 3, side)
            side //= stride
            yield Convolution(inner, outputs, 1, side)
            if block == 0:
                yield Convolution(inputs, outputs, 1, side)
            inputs = outputs


def resnet_costs(shape: ResNetShape) -> tuple[int, int, int]:
    """(parameters, forward FLOPs, backward FLOPs) of the image tower, the FLOPs for one image.

    Norms, activations and pools are of lower order in the channels and left out. Backward means the
    gradient of all parameters: each product comes back twice, the first convolution's once, as pixels need none.
    """
    channels, tokens = shape.channels, 1 + (shape.image_size // STRIDE) ** 2
    layers = list(convolutions(shape))
    normed = sum(layer.outputs for layer in layers)
    parameters = sum(layer.inputs * layer.outputs * layer.kernel**2 for layer in layers) + 2 * normed
    parameters += tokens * channels + 3 * (channels**2 + channels) + (channels + 1) * shape.features
    attention = 2 * channels * (channels + 2 * tokens * channels + 2 * tokens + shape.features)
    forward = sum(layer.flops for layer in layers) + attention
    return parameters, forward, 2 * forward - layers[0].flops
