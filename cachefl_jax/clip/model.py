"""CLIP's two towers in Flax NNX: images and token ids to features in one space.

The modules carry the names that Hugging Face's ``CLIPModel`` gives its own, so that a checkpoint's tensor
names are this model's paths and `cachefl_jax.clip.weights` needs no table. Source: Radford et al., "Learning
Transferable Visual Models From Natural Language Supervision", arXiv 2103.00020.

Axis letters: B batch, T tokens, H W image, D features.
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from transformers import CLIPConfig


def quick_gelu(x: jax.Array) -> jax.Array:
    """OpenAI CLIP's sigmoid approximation of GELU; LAION's checkpoints use the exact one."""
    return x * jax.nn.sigmoid(1.702 * x)


# Hugging Face's "gelu" is the exact error-function form; jax.nn.gelu defaults to the tanh approximation.
ACTIVATIONS = {
    "quick_gelu": quick_gelu,
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "gelu_pytorch_tanh": jax.nn.gelu,
}


class Attention(nnx.Module):
    """Multi-head self-attention, [B, T, width] -> [B, T, width]; causal in the text tower."""

    def __init__(self, config, *, causal: bool, rngs: nnx.Rngs):
        width = config.hidden_size
        self.heads, self.causal = config.num_attention_heads, causal
        self.q_proj = nnx.Linear(width, width, rngs=rngs)
        self.k_proj = nnx.Linear(width, width, rngs=rngs)
        self.v_proj = nnx.Linear(width, width, rngs=rngs)
        self.out_proj = nnx.Linear(width, width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        split = (*x.shape[:2], self.heads, -1)
        query, key, value = (layer(x).reshape(split) for layer in (self.q_proj, self.k_proj, self.v_proj))
        mixed = jax.nn.dot_product_attention(query, key, value, is_causal=self.causal)
        return self.out_proj(mixed.reshape(x.shape))


class MLP(nnx.Module):
    """The feed-forward half of a block, [B, T, width] -> [B, T, width]."""

    def __init__(self, config, *, rngs: nnx.Rngs):
        self.activation = ACTIVATIONS[config.hidden_act]
        self.fc1 = nnx.Linear(config.hidden_size, config.intermediate_size, rngs=rngs)
        self.fc2 = nnx.Linear(config.intermediate_size, config.hidden_size, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.fc2(self.activation(self.fc1(x)))


class EncoderLayer(nnx.Module):
    """A pre-norm transformer block, [B, T, width] -> [B, T, width]."""

    def __init__(self, config, *, causal: bool, rngs: nnx.Rngs):
        self.layer_norm1 = layer_norm(config, rngs)
        self.self_attn = Attention(config, causal=causal, rngs=rngs)
        self.layer_norm2 = layer_norm(config, rngs)
        self.mlp = MLP(config, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class Encoder(nnx.Module):
    """The stack of blocks that both towers share, [B, T, width] -> [B, T, width]."""

    def __init__(self, config, *, causal: bool, rngs: nnx.Rngs):
        layers = range(config.num_hidden_layers)
        self.layers = nnx.List([EncoderLayer(config, causal=causal, rngs=rngs) for _ in layers])

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers:
            x = layer(x)
        return x


def layer_norm(config, rngs: nnx.Rngs) -> nnx.LayerNorm:
    # Two-pass variance: the fast one-pass formula loses the digits that parity with torch needs.
    return nnx.LayerNorm(config.hidden_size, epsilon=config.layer_norm_eps, use_fast_variance=False, rngs=rngs)


class VisionEmbeddings(nnx.Module):
    """Pixels [B, H, W, 3] to patch tokens with the class token in front, [B, 1 + patches, width]."""

    def __init__(self, config, *, rngs: nnx.Rngs):
        width, patch = config.hidden_size, (config.patch_size, config.patch_size)
        patches = (config.image_size // config.patch_size) ** 2
        self.class_embedding = nnx.Param(0.02 * jax.random.normal(rngs.params(), (width,)))
        self.patch_embedding = nnx.Conv(3, width, patch, strides=patch, padding="VALID", use_bias=False, rngs=rngs)
        self.position_embedding = nnx.Embed(1 + patches, width, embedding_init=small_normal, rngs=rngs)

    def __call__(self, pixels: jax.Array) -> jax.Array:
        batch, width = pixels.shape[0], self.class_embedding.shape[0]
        patches = self.patch_embedding(pixels).reshape(batch, -1, width)
        first = jnp.broadcast_to(self.class_embedding[...], (batch, 1, width))
        tokens = jnp.concatenate([first, patches], axis=1)
        return tokens + self.position_embedding.embedding[...][None]


class VisionTower(nnx.Module):
    """Pixels [B, H, W, 3], normalised, to the class token's last state [B, width]."""

    def __init__(self, config, *, rngs: nnx.Rngs):
        self.embeddings = VisionEmbeddings(config, rngs=rngs)
        self.pre_layrnorm = layer_norm(config, rngs)  # sic: Hugging Face's own spelling
        self.encoder = Encoder(config, causal=False, rngs=rngs)
        self.post_layernorm = layer_norm(config, rngs)

    def __call__(self, pixels: jax.Array) -> jax.Array:
        hidden = self.encoder(self.pre_layrnorm(self.embeddings(pixels)))
        return self.post_layernorm(hidden[:, 0])


class TextEmbeddings(nnx.Module):
    """Token ids [B, T] to embeddings with positions added, [B, T, width]."""

    def __init__(self, config, *, rngs: nnx.Rngs):
        width = config.hidden_size
        self.token_embedding = nnx.Embed(config.vocab_size, width, embedding_init=small_normal, rngs=rngs)
        self.position_embedding = nnx.Embed(
            config.max_position_embeddings, width, embedding_init=small_normal, rngs=rngs
        )

    def __call__(self, ids: jax.Array) -> jax.Array:
        positions = self.position_embedding.embedding[: ids.shape[1]]
        return self.token_embedding(ids) + positions[None]


class TextTower(nnx.Module):
    """Token ids [B, T] to the end-of-text token's last state [B, width]."""

    def __init__(self, config, *, rngs: nnx.Rngs):
        self.eos_token_id = config.eos_token_id
        self.embeddings = TextEmbeddings(config, rngs=rngs)
        self.encoder = Encoder(config, causal=True, rngs=rngs)
        self.final_layer_norm = layer_norm(config, rngs)

    def __call__(self, ids: jax.Array) -> jax.Array:
        hidden = self.final_layer_norm(self.encoder(self.embeddings(ids)))
        return hidden[jnp.arange(ids.shape[0]), self.end_positions(ids)]

    def end_positions(self, ids: jax.Array) -> jax.Array:
        """Where each caption ends, [B]. Configs written before 2023 say eos 2 by mistake: there the end token
        is the largest id, as in OpenAI's own code."""
        if self.eos_token_id == 2:
            return jnp.argmax(ids, axis=1)
        return jnp.argmax(ids == self.eos_token_id, axis=1)


class CLIP(nnx.Module):
    """Both towers, their projections into the shared space, and the logit scale.

    Args:
        config: a `transformers.CLIPConfig`, as read from a checkpoint's ``config.json``.
        rngs: where the initial weights come from; a loaded checkpoint replaces them all.
    """

    def __init__(self, config: CLIPConfig, *, rngs: nnx.Rngs):
        vision, text, features = config.vision_config, config.text_config, config.projection_dim
        self.vision_model = VisionTower(vision, rngs=rngs)
        self.text_model = TextTower(text, rngs=rngs)
        self.visual_projection = nnx.Linear(vision.hidden_size, features, use_bias=False, rngs=rngs)
        self.text_projection = nnx.Linear(text.hidden_size, features, use_bias=False, rngs=rngs)
        self.logit_scale = nnx.Param(jnp.asarray(config.logit_scale_init_value, jnp.float32))

    def image_features(self, pixels: jax.Array) -> jax.Array:
        """Image features [B, D] of prepared pixels [B, H, W, 3]; not normalised."""
        return self.visual_projection(self.vision_model(pixels))

    def text_features(self, ids: jax.Array) -> jax.Array:
        """Text features [B, D] of token ids [B, T]; not normalised."""
        return self.text_projection(self.text_model(ids))


def small_normal(key, shape, dtype=jnp.float32):
    """CLIP's initialiser of embeddings: normal with standard deviation 0.02."""
    return 0.02 * jax.random.normal(key, shape, dtype)
