"""CLIP's residual image towers (RN50, RN101, RN50x4, ...) in Flax NNX.

Radford et al., arXiv 2103.00020, section 2.4: a ResNet-D (He et al., arXiv 1812.01187) whose strides are average pools
(Zhang, arXiv 1904.11486) and whose last pool is a layer of attention. The modules carry open_clip's names, so that
`cachefl_jax.clip.open_clip` finds a checkpoint's tensors without a table. Batch norm stands as it was trained, by its
running statistics, and does so where a tower is tuned.

Axis letters: B batch, T tokens (positions of the last map, their mean in front), D features, H W image.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from cachefl_jax.clip.attention import attention
from cachefl_jax.clip.model import linear

EXPANSION = 4  # a bottleneck's output channels over its inner ones
STRIDE = 32  # pixels a side of the image for one of the last map


class ResNetShape(NamedTuple):
    """What tells one of these towers from another."""

    blocks: tuple[int, int, int, int]  # bottlenecks of each stage
    width: int  # channels behind the stem
    heads: int  # of the attention that pools
    image_size: int
    features: int  # D

    @property
    def channels(self) -> int:
        """Of the last map."""
        return 8 * self.width * EXPANSION

    @property
    def stages(self) -> tuple[tuple[int, int], ...]:
        """(inner channels, stride) of each stage's first bottleneck."""
        return tuple((self.width * 2**stage, 1 if stage == 0 else 2) for stage in range(4))


def convolution(inputs: int, outputs: int, side: int, rngs: nnx.Rngs, dtype, stride: int = 1):
    """(a convolution that keeps the map's size but for its stride, kept and computed in `dtype`; its batch norm).

    At a stride of 2 "SAME" would pad elsewhere."""
    edge = (side // 2, side // 2)
    options = {"padding": (edge, edge), "use_bias": False, "dtype": dtype, "param_dtype": dtype, "rngs": rngs}
    layer = nnx.Conv(inputs, outputs, (side, side), stride, **options)
    return layer, nnx.BatchNorm(outputs, use_running_average=True, epsilon=1e-5, dtype=jnp.float32, rngs=rngs)


def pool(x: jax.Array, stride: int) -> jax.Array:
    """The mean of each square of `stride` pixels a side, [B, H, W, channels]."""
    return x if stride == 1 else nnx.avg_pool(x, (stride, stride), (stride, stride))


class Bottleneck(nnx.Module):
    """A residual block, [B, H, W, inputs] -> [B, H / stride, W / stride, 4 inner]; every stride is a pool."""

    def __init__(self, inputs: int, inner: int, stride: int, *, rngs: nnx.Rngs, dtype=jnp.float32):
        outputs = inner * EXPANSION
        self.stride = stride
        self.conv1, self.bn1 = convolution(inputs, inner, 1, rngs, dtype)
        self.conv2, self.bn2 = convolution(inner, inner, 3, rngs, dtype)
        self.conv3, self.bn3 = convolution(inner, outputs, 1, rngs, dtype)
        reshaped = stride > 1 or inputs != outputs
        self.downsample = nnx.List(convolution(inputs, outputs, 1, rngs, dtype) if reshaped else [])

    def __call__(self, x: jax.Array) -> jax.Array:
        hidden = nnx.relu(self.bn1(self.conv1(x)))
        hidden = nnx.relu(self.bn2(self.conv2(hidden)))
        hidden = self.bn3(self.conv3(pool(hidden, self.stride)))
        if self.downsample:
            shortcut, norm = self.downsample
            x = norm(shortcut(pool(x, self.stride)))
        return nnx.relu(hidden + x)


class AttentionPool(nnx.Module):
    """The last map [B, H, W, channels] to features [B, D]: its mean asks, the mean and every position answer."""

    def __init__(self, shape: ResNetShape, *, rngs: nnx.Rngs, dtype=jnp.float32):
        channels, tokens = shape.channels, 1 + (shape.image_size // STRIDE) ** 2
        self.heads = shape.heads
        start = channels**-0.5 * jax.random.normal(rngs.params(), (tokens, channels))
        self.positional_embedding = nnx.Param(start.astype(dtype))
        self.q_proj, self.k_proj, self.v_proj = (linear(channels, channels, rngs, dtype) for _ in range(3))
        self.c_proj = linear(channels, shape.features, rngs, dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        batch, channels = x.shape[0], x.shape[-1]
        tokens = x.reshape(batch, -1, channels)
        tokens = jnp.concatenate([tokens.mean(axis=1, keepdims=True), tokens], axis=1)
        tokens = tokens + self.positional_embedding[...][None]
        split = (batch, -1, self.heads, channels // self.heads)
        query, key, value = self.q_proj(tokens[:, :1]), self.k_proj(tokens), self.v_proj(tokens)
        mixed = attention(query.reshape(split), key.reshape(split), value.reshape(split))
        return self.c_proj(mixed.reshape(batch, channels))


class ResNetTower(nnx.Module):
    """Pixels [B, H, W, 3], normalised, to features [B, D].

    `dtype`: what weights are kept and multiplied in; batch norms and sums of blocks stay float32."""

    def __init__(self, shape: ResNetShape, *, rngs: nnx.Rngs, dtype=jnp.float32):
        width, half = shape.width, shape.width // 2
        self.conv1, self.bn1 = convolution(3, half, 3, rngs, dtype, stride=2)
        self.conv2, self.bn2 = convolution(half, half, 3, rngs, dtype)
        self.conv3, self.bn3 = convolution(half, width, 3, rngs, dtype)
        inputs = width
        for stage, (inner, stride) in enumerate(shape.stages):
            blocks = []
            for block in range(shape.blocks[stage]):
                blocks.append(Bottleneck(inputs, inner, stride if block == 0 else 1, rngs=rngs, dtype=dtype))
                inputs = inner * EXPANSION
            setattr(self, f"layer{stage + 1}", nnx.List(blocks))
        self.attnpool = AttentionPool(shape, rngs=rngs, dtype=dtype)

    def __call__(self, pixels: jax.Array) -> jax.Array:
        x = pixels
        for layer, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2), (self.conv3, self.bn3)):
            x = nnx.relu(norm(layer(x)))
        x = pool(x, 2)
        for block in (*self.layer1, *self.layer2, *self.layer3, *self.layer4):
            x = block(x)
        return self.attnpool(x)
