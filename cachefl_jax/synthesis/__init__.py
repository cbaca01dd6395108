"""The server's synthetic set: prompts, the pipeline that draws them, and the store that keeps what was drawn."""

from cachefl_jax.synthesis.generator import Drawing, generate
from cachefl_jax.synthesis.pipeline import find_pipeline
from cachefl_jax.synthesis.prompts import class_prompts, image_seeds
from cachefl_jax.synthesis.request import Request, request_of
from cachefl_jax.synthesis.store import obtain
from cachefl_jax.synthesis.stored import SyntheticSet

__all__ = [
    "Drawing",
    "Request",
    "SyntheticSet",
    "class_prompts",
    "find_pipeline",
    "generate",
    "image_seeds",
    "obtain",
    "request_of",
]
