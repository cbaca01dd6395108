"""What is trained: each method is a `Method`, three pure functions over a params pytree."""

from cachefl_jax.methods.cache import Cache, cachefl
from cachefl_jax.methods.method import Examples, Frozen, Method, cross_entropy, cross_entropy_of_scores, text_logits
from cachefl_jax.methods.zero_shot import zero_shot

METHODS = {"cachefl": cachefl, "zero_shot": zero_shot}

__all__ = [
    "METHODS",
    "Cache",
    "Examples",
    "Frozen",
    "Method",
    "cachefl",
    "cross_entropy",
    "cross_entropy_of_scores",
    "text_logits",
    "zero_shot",
]
