"""What is trained: each method is a `Method`, pure functions over a params pytree, in a file of its own."""

import importlib

from cachefl_jax.methods.method import Method, Rows, Server, text_logits

METHODS = {"cachefl": "cachefl_jax.methods.cachefl:cachefl", "zero_shot": "cachefl_jax.methods.zero_shot:zero_shot"}


def find_method(name: str) -> Method:
    """The method that a config names."""
    module, attribute = METHODS[name].split(":")
    return getattr(importlib.import_module(module), attribute)


__all__ = ["METHODS", "Method", "Rows", "Server", "find_method", "text_logits"]
