"""A frozen CLIP ready for use: images and class names to L2-normalised features.

Axis letters: B batch, N classes, D features, T tokens, H W image.
"""

import math
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from tqdm import tqdm

from cachefl_jax.clip.architecture import TextConfig, read_config
from cachefl_jax.clip.checkpoint import FIELD, find_checkpoint, is_open_clip
from cachefl_jax.clip.costs import TEXT
from cachefl_jax.clip.distinct import check_texts, check_weights
from cachefl_jax.clip.encoding import unit_rows
from cachefl_jax.clip.images import Preparation, read_preparation
from cachefl_jax.clip.model import CLIP, compiled_features
from cachefl_jax.clip.siglip import SigLIP
from cachefl_jax.clip.tokenizer import load_tokenizer
from cachefl_jax.clip.weights import load_clip
from cachefl_jax.errors import UsageError
from cachefl_jax.templates import check_templates, fill

PROMPTS = 128  # a batch of texts


class Encoder(NamedTuple):
    """A checkpoint's model, tokenizer and image preparation."""

    name: str
    model: CLIP | SigLIP
    tokenizer: Callable[[Sequence[str]], np.ndarray]  # B texts to token ids [B, T]
    preparation: Preparation
    image_size: int  # pixels a side of what the vision tower takes

    @property
    def logit_scale(self) -> float:
        """s: what cosines are multiplied by."""
        return jnp.exp(self.model.logit_scale[...]).item()

    @property
    def byte_count(self) -> int:
        """Bytes of the whole model, both towers: what sending it instead of a cache would cost."""
        return sum(leaf.nbytes for leaf in jax.tree.leaves(nnx.state(self.model)))


def load_encoder(checkpoint: str, dtype: str = "float32") -> Encoder:
    """Loads 'pocket', a directory in Hugging Face's or open_clip's format, or a hub name.

    `dtype`: what the towers keep their weights in and multiply in, as `load_clip` takes it.

    Raises UsageError: there is no such checkpoint, or it is incomplete."""
    directory = find_checkpoint(checkpoint)
    model = load_clip(directory, dtype)
    tokenizer = load_tokenizer(directory, model.text_model.embeddings.position_embedding.num_embeddings)
    encoder = Encoder(checkpoint, model, tokenizer, read_preparation(directory), image_size(directory))
    if not 0 < encoder.logit_scale < math.inf:
        found = f"{directory} (a logit_scale of {encoder.logit_scale})"
        raise UsageError(FIELD, found, "weights whose logit_scale is finite", "download them again")
    return encoder


def image_part(encoder: Encoder) -> Encoder:
    """The encoder without its text tower, for images alone: less than two thirds of a ViT-B/32's memory, once nobody
    holds the whole."""
    return encoder._replace(model=without(encoder.model, TEXT))


def without(model: nnx.Module, parts: Sequence[str]) -> nnx.Module:
    """Another model of the same arrays, without some parts; one that the model does not have counts as left out."""
    model = nnx.merge(*nnx.split(model))
    for name in parts:
        if hasattr(model, name):
            delattr(model, name)
    return model


def image_size(directory: pathlib.Path) -> int:
    """Pixels a side of the images that a checkpoint's vision tower takes, as its config says."""
    if is_open_clip(directory):
        from cachefl_jax.clip.open_clip_config import read_open_clip_config

        return read_open_clip_config(directory).vision.image_size
    return read_config(directory).vision_config.image_size


def encode_classes(encoder: Encoder, class_names: Sequence[str], templates: Sequence[str]) -> np.ndarray:
    """Class weights [N, D] float32: each template's unit text feature, averaged over templates, unit again.

    Radford et al., arXiv 2103.00020, section 3.1.4.

    Raises UsageError: a template does not have exactly one {}, a text is longer than the text tower's context or does
    not end where the tower reads it, a text's feature is zero or not finite, or two classes have equal weights."""
    check_templates("clip.templates", templates)
    prompts = [fill(template, name) for name in class_names for template in templates]
    ids = tokenized(encoder, class_names, templates)
    _, compute = compiled_features(encoder.model)
    count, features = min(PROMPTS, len(prompts)), []
    for start in tqdm(range(0, len(prompts), count), desc="encoding prompts", leave=False, disable=None, delay=1):
        batch = ids[start : start + count]
        filled = np.concatenate([batch, np.repeat(batch[-1:], count - len(batch), axis=0)])
        raw = np.asarray(compute(filled), np.float64)[: len(batch)]
        features.append(unit_rows(raw, lambda row, start=start: f'the text "{prompts[start + row]}"'))
    each = np.concatenate(features).astype(np.float64).reshape(len(class_names), len(templates), -1)
    weights = unit_rows(each.mean(axis=1), lambda row: f"class {class_names[row]}")
    check_weights(weights, class_names)
    return weights


def tokenized(encoder: Encoder, class_names: Sequence[str], templates: Sequence[str]) -> np.ndarray:
    """Token ids [N * templates, T] of every class's texts, class by class, each checked: all that are too long are told
    at once."""
    every = encoder.tokenizer([fill(template, name) for name in class_names for template in templates])
    check_vocabulary(encoder, every)
    check_ends(encoder, every)
    check_texts(every.reshape(len(class_names), -1), class_names)
    return every


def check_vocabulary(encoder: Encoder, ids: np.ndarray) -> None:
    """Whether the text tower has an embedding for every token.

    Raises UsageError: it has not, so that the tokenizer is another model's."""
    count = encoder.model.text_model.embeddings.token_embedding.num_embeddings
    if ids.max() >= count:
        found = f"{encoder.name} (its tokenizer gives token {ids.max()})"
        mend = "take weights and tokenizer of one model"
        raise UsageError("clip.checkpoint", found, f"0 to {count - 1}, the text tower's tokens", mend)


def check_ends(encoder: Encoder, ids: np.ndarray) -> None:
    """Whether the text tower reads each text [B, T] at its end token; SigLIP's reads the last token, whatever it is.

    Anywhere else it reads a state that does not know the whole text: of the first token, the same for all texts.

    Raises UsageError: it does not; the config field that says where it reads is named."""
    tower = encoder.model.text_model
    if not hasattr(tower, "end_positions"):
        return
    largest = tower.eos_token_id == 2
    due = getattr(encoder.tokenizer, "end", None)
    if due is None:  # a tokenizer that does not say; the config's own token must at least be there
        if largest:
            return
        due = tower.eos_token_id
    read = ids[np.arange(len(ids)), np.asarray(tower.end_positions(ids))]
    if (read == due).all():
        return
    raise wrong_end(encoder, f"texts are then read at token {read[read != due][0]}", due)


def wrong_end(encoder: Encoder, why: str, due: int) -> UsageError:
    """The refusal of texts that are not read at their end token, `due`."""
    said, allowed = encoder.model.text_model.eos_token_id, f"{due}, the tokenizer's end token"
    if is_open_clip(find_checkpoint(encoder.name)):  # whose config has no such field
        found = f"{encoder.name} (texts end at their largest token: {why})"
        return UsageError(FIELD, found, allowed, "take weights and tokenizer of one model")
    kind = {2: ", the largest token of a text", TextConfig().eos_token_id: ", which also stands for no such field"}
    found, mend = f"{said}{kind.get(said, '')} ({why})", "set it so in config.json, or take both from one model"
    return UsageError(f"{encoder.name}: text_config.eos_token_id", found, allowed, mend)
