"""Checkpoints in open_clip's format: ``open_clip_config.json`` beside ``open_clip_model.safetensors``.

So the hub holds OpenAI's residual networks (timm/resnet50_clip.openai and its like), for which Hugging Face's own
format has no tower, and most models trained with open_clip. Residual networks become a `ResNetCLIP`; vision
transformers become the same `CLIP` as Hugging Face's checkpoints.
"""

import functools
import math
import pathlib
import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cachefl_jax.clip.architecture import CLIPConfig, TextConfig
from cachefl_jax.clip.checkpoint import OPEN_CLIP_CONFIG
from cachefl_jax.clip.claims import check_claims, open_clip_claims
from cachefl_jax.clip.model import CLIP, TextTower, TwoTowers, linear
from cachefl_jax.clip.open_clip_config import read_open_clip_config
from cachefl_jax.clip.resnet import ResNetShape, ResNetTower
from cachefl_jax.clip.weights import DTYPES, fill, multiplying, read_tensors, tensor_name

THIRDS = ("query", "key", "value")  # of an attention's input projection, which is one tensor there
# From our paths, which are Hugging Face's names, to theirs; the residual tower's are theirs but for the statistics.
NAMES = (
    (r"^text_model\.encoder\.layers", "transformer.resblocks"),
    (r"^vision_model\.encoder\.layers", "visual.transformer.resblocks"),
    (r"self_attn\.q_proj\.(\w+)", r"attn.in_proj_\1[query]"),
    (r"self_attn\.k_proj\.(\w+)", r"attn.in_proj_\1[key]"),
    (r"self_attn\.v_proj\.(\w+)", r"attn.in_proj_\1[value]"),
    (r"self_attn\.out_proj", "attn.out_proj"),
    (r"layer_norm([12])", r"ln_\1"),
    (r"mlp\.fc1", "mlp.c_fc"),
    (r"mlp\.fc2", "mlp.c_proj"),
    (r"^text_model\.embeddings\.token_embedding", "token_embedding"),
    (r"^text_model\.embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"^text_model\.final_layer_norm", "ln_final"),
    (r"^vision_model\.embeddings\.class_embedding", "visual.class_embedding"),
    (r"^vision_model\.embeddings\.patch_embedding", "visual.conv1"),
    (r"^vision_model\.embeddings\.position_embedding\.weight", "visual.positional_embedding"),
    (r"^vision_model\.pre_layrnorm", "visual.ln_pre"),
    (r"^vision_model\.post_layernorm", "visual.ln_post"),
    (r"^text_projection\.weight", "text_projection"),
    (r"^visual_projection\.weight", "visual.proj"),
    (r"^(visual\..+)\.(mean|var)$", r"\1.running_\2"),
)
UNTURNED = ("text_projection", "visual.proj")  # [in, out] there too, unlike all other matrices


class ResNetCLIP(TwoTowers):
    """A residual image tower beside CLIP's text tower; stands in for `cachefl_jax.clip.model.CLIP`."""

    def __init__(self, shape: ResNetShape, text: TextConfig, *, rngs: nnx.Rngs, dtype=jnp.float32):
        self.visual = ResNetTower(shape, rngs=rngs, dtype=dtype)
        self.text_model = TextTower(text, rngs=rngs, dtype=dtype)
        self.text_projection = linear(text.hidden_size, shape.features, rngs, dtype, use_bias=False)
        self.logit_scale = nnx.Param(jnp.asarray(math.log(1 / 0.07), jnp.float32))

    def embed_images(self, pixels: jax.Array) -> jax.Array:
        return self.visual(pixels)


def load_open_clip(directory: pathlib.Path, dtype: str = "float32") -> ResNetCLIP | CLIP:
    """Builds the model that the directory's config describes and fills it with its weights.

    `dtype`: as `load_clip` takes it.

    Raises UsageError: another architecture, no safetensors, or tensors missing, unexpected or of another shape: all are
    named."""
    config, stored = read_open_clip_config(directory), read_tensors(directory)
    claims = open_clip_claims(config.vision, config.text, config.features)
    shapes = {name: reader.shape for name, reader in stored.items()}
    check_claims(claims, shapes, f"{directory / OPEN_CLIP_CONFIG}: model_cfg")
    abstract, readers = abstract_open_clip(directory, dtype), split_attention(stored)
    counters = [name for name in readers if name.endswith(".num_batches_tracked")]  # of training's batch norms
    return fill(abstract, readers, str(directory), open_clip_name, counters)


def abstract_open_clip(directory: pathlib.Path, dtype: str = "float32") -> ResNetCLIP | CLIP:
    """The model of a checkpoint, with shapes in place of weights. Raises UsageError: as `read_open_clip_config`."""
    config = read_open_clip_config(directory)
    kind, arguments = CLIP, [CLIPConfig("clip", config.vision, config.text, config.features)]
    if isinstance(config.vision, ResNetShape):
        kind, arguments = ResNetCLIP, [config.vision, config.text]
    return multiplying(nnx.eval_shape(lambda: kind(*arguments, rngs=nnx.Rngs(0), dtype=DTYPES[dtype])), dtype)


def split_attention(readers: dict[str, Callable]) -> dict[str, Callable]:
    """The same readers, where each attention's input projection has three: its name with [query], [key], [value]."""
    parts = {}
    for name in [name for name in readers if re.search(r"\.attn\.in_proj_(weight|bias)$", name)]:
        read = readers.pop(name)
        parts |= {f"{name}[{third}]": functools.partial(read_third, read, third) for third in THIRDS}
    return readers | parts


def read_third(read: Callable[[], np.ndarray], third: str) -> np.ndarray:
    return np.array_split(read(), len(THIRDS))[THIRDS.index(third)]


def open_clip_name(path, ndim: int) -> tuple[str, tuple[int, ...] | None]:
    """The checkpoint's name of the parameter at `path`, and how its axes are turned to get ours."""
    name, axes = tensor_name(path, ndim)
    for ours, theirs in NAMES:
        name = re.sub(ours, theirs, name)
    return name, None if name in UNTURNED else axes
