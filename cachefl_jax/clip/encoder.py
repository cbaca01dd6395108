"""A frozen CLIP ready for use: images and class names to L2-normalised features.

Axis letters: B batch, N classes, D features, T tokens, H W image.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from tqdm import tqdm
from transformers import CLIPTokenizer

from cachefl_jax.clip.images import Preparation, prepare_all, read_preparation
from cachefl_jax.clip.model import CLIP
from cachefl_jax.clip.weights import find_checkpoint, load_clip
from cachefl_jax.templates import check_templates, fill

BATCH = 128


class Encoder(NamedTuple):
    """A checkpoint's model, tokenizer and image preparation."""

    name: str
    model: CLIP
    tokenizer: CLIPTokenizer
    preparation: Preparation

    @property
    def logit_scale(self) -> float:
        """s: what cosines are multiplied by."""
        return float(jnp.exp(self.model.logit_scale[...]))

    @property
    def byte_count(self) -> int:
        """Bytes of the whole model, both towers: what sending it instead of a cache would cost."""
        return sum(leaf.nbytes for leaf in jax.tree.leaves(nnx.state(self.model)))


def load_encoder(checkpoint: str) -> Encoder:
    """Loads 'pocket', a directory in Hugging Face's format, or a hub name.

    Raises:
        UsageError: there is no such checkpoint, or it is incomplete.
    """
    directory = find_checkpoint(checkpoint)
    model = load_clip(directory)
    tokenizer = CLIPTokenizer.from_pretrained(str(directory))
    return Encoder(checkpoint, model, tokenizer, read_preparation(directory))


@nnx.jit
def unit_image_features(model: CLIP, pixels: jax.Array) -> jax.Array:
    return unit(model.image_features(pixels))


@nnx.jit
def unit_text_features(model: CLIP, ids: jax.Array) -> jax.Array:
    return unit(model.text_features(ids))


def unit(features: jax.Array) -> jax.Array:
    """Rows of length 1."""
    return features / jnp.linalg.norm(features, axis=-1, keepdims=True)


def encode_images(encoder: Encoder, images: Sequence, what: str = "images") -> np.ndarray:
    """Features [n, D] float32, L2-normalised, of `images`: PIL images or uint8 arrays [H, W] or [H, W, 3].

    Batches have one fixed shape (the last is filled up with its own last image), so one program serves all.
    """
    features = []
    starts = range(0, len(images), BATCH)
    for start in tqdm(starts, desc=f"encoding {what}", unit="batch", leave=False, disable=None):
        pixels = prepare_all(images[start : start + BATCH], encoder.preparation)
        filled = np.pad(pixels, ((0, BATCH - len(pixels)), (0, 0), (0, 0), (0, 0)), mode="edge")
        features.append(np.asarray(unit_image_features(encoder.model, filled))[: len(pixels)])
    return np.concatenate(features)


def encode_classes(encoder: Encoder, class_names: Sequence[str], templates: Sequence[str]) -> np.ndarray:
    """Class weights [N, D] float32: each template's unit text feature, averaged over templates, unit again.

    Radford et al., arXiv 2103.00020, section 3.1.4.

    Raises:
        UsageError: a template does not have exactly one {}.
    """
    check_templates("clip.templates", templates)
    length = encoder.model.text_model.embeddings.position_embedding.num_embeddings
    weights = []
    for name in class_names:
        ids = tokenize(encoder.tokenizer, [fill(template, name) for template in templates], length)
        weights.append(unit(unit_text_features(encoder.model, ids).mean(axis=0)))
    return np.stack(weights)


def tokenize(tokenizer, prompts: Sequence[str], length: int) -> np.ndarray:
    """Token ids [B, T], T = `length`, the tower's; longer prompts are cut as CLIP cuts them."""
    return tokenizer(list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="np")[
        "input_ids"
    ].astype(np.int32)
