"""What is trained: each method is a `Method`, pure functions over a params pytree, in a file of its own."""

from cachefl_jax.config.components import COMPONENTS
from cachefl_jax.methods.method import Method, Rows, Server, text_logits
from cachefl_jax.named import find


def find_method(name: str) -> Method:
    """The method of this name, ours or a user's, as a config has it."""
    return find("method", name, *COMPONENTS["compare"])


__all__ = ["Method", "Rows", "Server", "find_method", "text_logits"]
