"""CLIP's two towers in Flax NNX: images and token ids to features in one space.

The modules carry the names that Hugging Face's ``CLIPModel`` gives its own, so that a checkpoint's tensor
names are this model's paths and `cachefl_jax.clip.weights` needs no table. Source: Radford et al., "Learning
Transferable Visual Models From Natural Language Supervision", arXiv 2103.00020.

Every tower computes its matrix products in `dtype`; sums of blocks, layer norms and softmax stay float32.

Axis letters: B batch, T tokens, H W image, D features.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from cachefl_jax.clip.architecture import CLIPConfig, TextConfig, VisionConfig
from cachefl_jax.clip.attention import attention
from cachefl_jax.precision import MATMUL


def quick_gelu(x: jax.Array) -> jax.Array:
    """OpenAI CLIP's sigmoid approximation of GELU; LAION's checkpoints use the exact one."""
    return x * jax.nn.sigmoid(1.702 * x)


# Hugging Face's "gelu" is the exact error-function form; jax.nn.gelu defaults to the tanh approximation.
ACTIVATIONS = {
    "quick_gelu": quick_gelu,
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "gelu_pytorch_tanh": jax.nn.gelu,
}


def linear(inputs: int, outputs: int, rngs: nnx.Rngs, dtype, *, use_bias: bool = True) -> nnx.Linear:
    """A linear layer that is kept and computed in `dtype`."""
    return nnx.Linear(inputs, outputs, use_bias=use_bias, dtype=dtype, param_dtype=dtype, rngs=rngs)


def layer_norm(config: VisionConfig | TextConfig, rngs: nnx.Rngs) -> nnx.LayerNorm:
    # Two-pass variance: the fast one-pass formula loses the digits that parity with torch needs.
    return nnx.LayerNorm(config.hidden_size, epsilon=config.layer_norm_eps, use_fast_variance=False, rngs=rngs)


class Attention(nnx.Module):
    """Multi-head self-attention, [B, T, width] -> [B, T, width]; causal in CLIP's text tower."""

    def __init__(self, config: VisionConfig | TextConfig, *, causal: bool, rngs: nnx.Rngs, dtype=jnp.float32):
        width = config.hidden_size
        self.heads, self.causal = config.num_attention_heads, causal
        self.q_proj = linear(width, width, rngs, dtype)
        self.k_proj = linear(width, width, rngs, dtype)
        self.v_proj = linear(width, width, rngs, dtype)
        self.out_proj = linear(width, width, rngs, dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        split = (*x.shape[:2], self.heads, -1)
        query, key, value = (layer(x).reshape(split) for layer in (self.q_proj, self.k_proj, self.v_proj))
        return self.out_proj(attention(query, key, value, causal=self.causal).reshape(x.shape))


class MLP(nnx.Module):
    """The feed-forward half of a block, [..., width] -> [..., width]."""

    def __init__(self, config: VisionConfig | TextConfig, *, rngs: nnx.Rngs, dtype=jnp.float32):
        self.activation = ACTIVATIONS[config.hidden_act]
        self.fc1 = linear(config.hidden_size, config.intermediate_size, rngs, dtype)
        self.fc2 = linear(config.intermediate_size, config.hidden_size, rngs, dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.fc2(self.activation(self.fc1(x)))


class EncoderLayer(nnx.Module):
    """A pre-norm transformer block, [B, T, width] -> [B, T, width]."""

    def __init__(self, config: VisionConfig | TextConfig, *, causal: bool, rngs: nnx.Rngs, dtype=jnp.float32):
        self.layer_norm1 = layer_norm(config, rngs)
        self.self_attn = Attention(config, causal=causal, rngs=rngs, dtype=dtype)
        self.layer_norm2 = layer_norm(config, rngs)
        self.mlp = MLP(config, rngs=rngs, dtype=dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class Encoder(nnx.Module):
    """The stack of blocks that all towers share, [B, T, width] -> [B, T, width]."""

    def __init__(self, config: VisionConfig | TextConfig, *, causal: bool, rngs: nnx.Rngs, dtype=jnp.float32):
        layers = range(config.num_hidden_layers)
        self.layers = nnx.List([EncoderLayer(config, causal=causal, rngs=rngs, dtype=dtype) for _ in layers])

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers:
            x = layer(x)
        return x


class VisionEmbeddings(nnx.Module):
    """Pixels [B, H, W, 3] to patch tokens with their positions, [B, T, width].

    CLIP puts a class token in front and its patches have no bias; SigLIP has the bias and no class token."""

    def __init__(self, config: VisionConfig, *, class_token: bool, rngs: nnx.Rngs, dtype=jnp.float32):
        width, patch = config.hidden_size, (config.patch_size, config.patch_size)
        patches = (config.image_size // config.patch_size) ** 2
        if class_token:
            self.class_embedding = nnx.Param(0.02 * jax.random.normal(rngs.params(), (width,), dtype))
        # Holds the weights under their name; the product itself is `embed_patches`.
        self.patch_embedding = nnx.Conv(
            3, width, patch, strides=patch, use_bias=not class_token, dtype=dtype, param_dtype=dtype, rngs=rngs
        )
        self.position_embedding = embedding(patches + class_token, width, rngs, dtype)

    def __call__(self, pixels: jax.Array) -> jax.Array:
        tokens = embed_patches(self.patch_embedding, pixels).astype(jnp.float32)
        if hasattr(self, "class_embedding"):
            first = jnp.broadcast_to(self.class_embedding[...], (tokens.shape[0], 1, tokens.shape[2]))
            tokens = jnp.concatenate([first.astype(jnp.float32), tokens], axis=1)
        return tokens + self.position_embedding.embedding[...][None]


def embed_patches(convolution: nnx.Conv, pixels: jax.Array) -> jax.Array:
    """The patches' tokens [B, patches, width], row by row; what is left at the right and below is dropped.

    A convolution whose strides are its kernel's sides is one product of matrices, and twice as fast as one on a CPU."""
    kernel, side = convolution.kernel[...], convolution.kernel_size[0]
    batch, rows, columns = pixels.shape[0], pixels.shape[1] // side, pixels.shape[2] // side
    whole = pixels[:, : rows * side, : columns * side].reshape(batch, rows, side, columns, side, -1)
    patches = whole.swapaxes(2, 3).reshape(batch, rows * columns, -1).astype(kernel.dtype)
    tokens = patches @ kernel.reshape(-1, kernel.shape[-1])
    return tokens if convolution.bias is None else tokens + convolution.bias[...][None, None]


class VisionTower(nnx.Module):
    """Pixels [B, H, W, 3], normalised, to the class token's last state [B, width]."""

    def __init__(self, config: VisionConfig, *, rngs: nnx.Rngs, dtype=jnp.float32):
        self.embeddings = VisionEmbeddings(config, class_token=True, rngs=rngs, dtype=dtype)
        self.pre_layrnorm = layer_norm(config, rngs)  # sic: Hugging Face's own spelling
        self.encoder = Encoder(config, causal=False, rngs=rngs, dtype=dtype)
        self.post_layernorm = layer_norm(config, rngs)

    def __call__(self, pixels: jax.Array) -> jax.Array:
        hidden = self.encoder(self.pre_layrnorm(self.embeddings(pixels)))
        return self.post_layernorm(hidden[:, 0])


class TextEmbeddings(nnx.Module):
    """Token ids [B, T] to embeddings with positions added, [B, T, width]."""

    def __init__(self, config: TextConfig, *, rngs: nnx.Rngs, dtype=jnp.float32):
        self.token_embedding = embedding(config.vocab_size, config.hidden_size, rngs, dtype)
        self.position_embedding = embedding(config.max_position_embeddings, config.hidden_size, rngs, dtype)

    def __call__(self, ids: jax.Array) -> jax.Array:
        positions = self.position_embedding.embedding[: ids.shape[1]]
        return self.token_embedding(ids).astype(jnp.float32) + positions[None]


class TextTower(nnx.Module):
    """Token ids [B, T] to the end-of-text token's last state [B, width].

    `config`: sizes of the tower, and the id that ends a caption; 2 stands for "the largest id", see `end_positions`.
    """

    def __init__(self, config: TextConfig, *, rngs: nnx.Rngs, dtype=jnp.float32):
        self.eos_token_id = config.eos_token_id
        self.embeddings = TextEmbeddings(config, rngs=rngs, dtype=dtype)
        self.encoder = Encoder(config, causal=True, rngs=rngs, dtype=dtype)
        self.final_layer_norm = layer_norm(config, rngs)

    def __call__(self, ids: jax.Array) -> jax.Array:
        return self.read(self.embeddings(ids), self.end_positions(ids))

    def read(self, embedded: jax.Array, ends: jax.Array) -> jax.Array:
        """The last states [B, width] at the positions `ends` [B] of embedded tokens [B, T, width], positions added."""
        hidden = self.encoder(embedded)
        return self.final_layer_norm(hidden[jnp.arange(len(embedded)), ends])

    def end_positions(self, ids: jax.Array) -> jax.Array:
        """Where each caption ends, [B]: at the first end token, which may be the padding too. Configs written before
        2023 say eos 2 by mistake: there the end token is the largest id, as in OpenAI's own code."""
        if self.eos_token_id == 2:
            return jnp.argmax(ids, axis=1)
        return jnp.argmax(ids == self.eos_token_id, axis=1)


class TwoTowers(nnx.Module):
    """What all models here give: features of `embed_images` and of the text tower, in float32.

    `matmul` is how matrix products of float32 operands are computed, in JAX's words."""

    matmul = MATMUL

    def image_features(self, pixels: jax.Array) -> jax.Array:
        """Image features [B, D] float32 of prepared pixels [B, H, W, 3]; not normalised."""
        with jax.default_matmul_precision(self.matmul):
            return self.embed_images(pixels).astype(jnp.float32)

    def text_features(self, ids: jax.Array) -> jax.Array:
        """Text features [B, D] float32 of token ids [B, T]; not normalised."""
        with jax.default_matmul_precision(self.matmul):
            return self.project(self.text_model(ids)).astype(jnp.float32)

    def features_of_embedded(self, embedded: jax.Array, ends: jax.Array) -> jax.Array:
        """Text features [B, D] float32 of tokens that are embedded already, [B, T, width] with positions added, and end
        at `ends` [B]; not normalised. What a prompt's vectors go through."""
        with jax.default_matmul_precision(self.matmul):
            return self.project(self.text_model.read(embedded, ends)).astype(jnp.float32)

    def project(self, states: jax.Array) -> jax.Array:
        """Features [B, D] of the text tower's states [B, width]; SigLIP's tower gives features itself."""
        return self.text_projection(states) if hasattr(self, "text_projection") else states


class CLIP(TwoTowers):
    """Both towers, their projections into the shared space, and the logit scale.

    `config`: the sizes, as `read_config` reads them or a `transformers.CLIPConfig`."""

    def __init__(self, config: CLIPConfig, *, rngs: nnx.Rngs, dtype=jnp.float32):
        vision, text, features = config.vision_config, config.text_config, config.projection_dim
        self.vision_model = VisionTower(vision, rngs=rngs, dtype=dtype)
        self.text_model = TextTower(text, rngs=rngs, dtype=dtype)
        self.visual_projection = linear(vision.hidden_size, features, rngs, dtype, use_bias=False)
        self.text_projection = linear(text.hidden_size, features, rngs, dtype, use_bias=False)
        self.logit_scale = nnx.Param(jnp.asarray(config.logit_scale_init_value, jnp.float32))

    def embed_images(self, pixels: jax.Array) -> jax.Array:
        return self.visual_projection(self.vision_model(pixels))


def compiled_features(model: nnx.Module) -> tuple[Callable, Callable]:
    """The model's `image_features` and `text_features`, compiled once for every shape and architecture.

    Not by `nnx.jit`, which hands the whole model back from every call: a copy of all weights that nobody changed."""
    graph, state = nnx.split(model)
    return tuple(functools.partial(features, graph, name, state) for name in ("image_features", "text_features"))


@functools.partial(jax.jit, static_argnums=(0, 1))
def features(graph: nnx.GraphDef, name: str, state: nnx.State, given: jax.Array) -> jax.Array:
    """What the named method gives on pixels or ids; compiled."""
    return getattr(nnx.merge(graph, state), name)(given)


def embedding(count: int, width: int, rngs: nnx.Rngs, dtype) -> nnx.Embed:
    return nnx.Embed(count, width, embedding_init=small_normal, dtype=dtype, param_dtype=dtype, rngs=rngs)


def small_normal(key, shape, dtype=jnp.float32):
    """CLIP's initialiser of embeddings: normal with standard deviation 0.02."""
    return 0.02 * jax.random.normal(key, shape, dtype)
