"""Frozen CLIP in Flax NNX: images and text to features."""

from cachefl_jax.clip.encoder import Encoder, encode_classes, encode_images, load_encoder
from cachefl_jax.clip.model import CLIP
from cachefl_jax.clip.weights import find_checkpoint, load_clip, save_clip

__all__ = [
    "CLIP",
    "Encoder",
    "encode_classes",
    "encode_images",
    "find_checkpoint",
    "load_clip",
    "load_encoder",
    "save_clip",
]
