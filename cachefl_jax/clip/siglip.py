"""SigLIP's towers: no class token but attention pooling, no causal mask, and the last token's state for a text.

Also SigLIP 2 at a fixed resolution, which differs in its tokenizer alone. The modules carry the names of Hugging Face's
``SiglipModel``. Sources: Zhai et al., "Sigmoid Loss for Language Image Pre-Training", arXiv 2303.15343; Tschannen et
al., "SigLIP 2", arXiv 2502.14786.

Axis letters: B batch, T tokens, H W image, D features.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from cachefl_jax.clip.architecture import CLIPConfig, TextConfig, VisionConfig
from cachefl_jax.clip.attention import attention
from cachefl_jax.clip.model import (
    MLP,
    Encoder,
    TextEmbeddings,
    TwoTowers,
    VisionEmbeddings,
    layer_norm,
    linear,
    small_normal,
)


class PoolingAttention(nnx.Module):
    """Attention of one query a batch, [1, 1, width], over tokens [B, T, width]: [B, 1, width].

    Its three projections are one tensor, turned and stacked as torch's ``nn.MultiheadAttention`` keeps them."""

    def __init__(self, config: VisionConfig, *, rngs: nnx.Rngs, dtype=jnp.float32):
        width = config.hidden_size
        self.heads = config.num_attention_heads
        self.in_proj_weight = nnx.Param(small_normal(rngs.params(), (3 * width, width), dtype))
        self.in_proj_bias = nnx.Param(jnp.zeros(3 * width, dtype))
        self.out_proj = linear(width, width, rngs, dtype)

    def __call__(self, query: jax.Array, tokens: jax.Array) -> jax.Array:
        weights, biases = jnp.split(self.in_proj_weight[...], 3), jnp.split(self.in_proj_bias[...], 3)
        split = []
        for x, weight, bias in zip((query, tokens, tokens), weights, biases, strict=True):
            projected = x.astype(weight.dtype) @ weight.T + bias[None, None]
            split.append(projected.reshape(*x.shape[:2], self.heads, -1))
        split[0] = jnp.broadcast_to(split[0], (tokens.shape[0], *split[0].shape[1:]))
        return self.out_proj(attention(*split).reshape(tokens.shape[0], 1, -1))


class PoolingHead(nnx.Module):
    """Tokens [B, T, width] to one state [B, width]: a learnt query attends to them, and a block's MLP follows."""

    def __init__(self, config: VisionConfig, *, rngs: nnx.Rngs, dtype=jnp.float32):
        self.probe = nnx.Param(small_normal(rngs.params(), (1, 1, config.hidden_size), dtype))
        self.attention = PoolingAttention(config, rngs=rngs, dtype=dtype)
        self.layernorm = layer_norm(config, rngs)
        self.mlp = MLP(config, rngs=rngs, dtype=dtype)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        state = self.attention(self.probe[...], tokens).astype(jnp.float32)
        return (state + self.mlp(self.layernorm(state)))[:, 0]


class SigLIPVisionTower(nnx.Module):
    """Pixels [B, H, W, 3], normalised, to the pooled state [B, width], which is the image's feature."""

    def __init__(self, config: VisionConfig, *, rngs: nnx.Rngs, dtype=jnp.float32):
        self.embeddings = VisionEmbeddings(config, class_token=False, rngs=rngs, dtype=dtype)
        self.encoder = Encoder(config, causal=False, rngs=rngs, dtype=dtype)
        self.post_layernorm = layer_norm(config, rngs)
        self.head = PoolingHead(config, rngs=rngs, dtype=dtype)

    def __call__(self, pixels: jax.Array) -> jax.Array:
        return self.head(self.post_layernorm(self.encoder(self.embeddings(pixels))))


class SigLIPTextTower(nnx.Module):
    """Token ids [B, T] to the feature [B, D] of the last token, padding or not: the whole length T is always given.

    Padding is attended to like any token, as it was in training."""

    def __init__(self, config: TextConfig, *, rngs: nnx.Rngs, dtype=jnp.float32):
        self.embeddings = TextEmbeddings(config, rngs=rngs, dtype=dtype)
        self.encoder = Encoder(config, causal=False, rngs=rngs, dtype=dtype)
        self.final_layer_norm = layer_norm(config, rngs)
        self.head = linear(config.hidden_size, config.projection_size or config.hidden_size, rngs, dtype)

    def __call__(self, ids: jax.Array) -> jax.Array:
        return self.read(self.embeddings(ids))

    def read(self, embedded: jax.Array, ends: jax.Array | None = None) -> jax.Array:
        """The features [B, D] of embedded tokens [B, T, width], positions added; `ends` is where CLIP's tower reads."""
        del ends
        hidden = self.encoder(embedded)
        return self.head(self.final_layer_norm(hidden[:, -1]))


class SigLIP(TwoTowers):
    """Both towers, and the scale and bias of its logits.

    The bias moves every class's logit alike, so class probabilities need the scale alone."""

    def __init__(self, config: CLIPConfig, *, rngs: nnx.Rngs, dtype=jnp.float32):
        self.vision_model = SigLIPVisionTower(config.vision_config, rngs=rngs, dtype=dtype)
        self.text_model = SigLIPTextTower(config.text_config, rngs=rngs, dtype=dtype)
        self.logit_scale = nnx.Param(jnp.zeros(1))
        self.logit_bias = nnx.Param(jnp.zeros(1))

    def embed_images(self, pixels: jax.Array) -> jax.Array:
        return self.vision_model(pixels)
