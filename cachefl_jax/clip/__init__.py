"""Frozen CLIP in Flax NNX: images and text to features.

What needs Flax is imported when it is first asked for: where a checkpoint lies, and whether it is the same one, is told
by `find_checkpoint` and `weights_digest` in milliseconds.
"""

import importlib

from cachefl_jax.clip.checkpoint import find_checkpoint
from cachefl_jax.clip.digest import weights_digest

LATER = {
    "CLIP": "model",
    "Encoder": "encoder",
    "SigLIP": "siglip",
    "TowerCosts": "costs",
    "averaged_blocks": "encoding",
    "encode_classes": "encoder",
    "encode_images": "encoding",
    "image_blocks": "encoding",
    "image_part": "encoder",
    "load_clip": "weights",
    "load_encoder": "encoder",
    "save_clip": "weights",
    "tower_costs": "costs",
}

__all__ = ["find_checkpoint", "weights_digest", *LATER]


def __getattr__(name: str):
    if name not in LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{LATER[name]}"), name)
