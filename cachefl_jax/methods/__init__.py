"""What is trained: each method is a `Method`, pure functions over a params pytree, in a file of its own."""

from cachefl_jax.config.components import COMPONENTS
from cachefl_jax.errors import UsageError
from cachefl_jax.methods.method import Choice, ClosedForm, Method, Rows, Server, text_logits
from cachefl_jax.named import find

INPUTS = Rows._fields[1:]  # beside the labels


def find_method(name: str) -> Method:
    """The method of this name, ours or a user's, as a config has it.

    Raises UsageError: as `find`, or it reads what rows have not."""
    method = find("method", name, *COMPONENTS["compare"])
    unknown = [each for each in method.inputs if each not in INPUTS]
    if unknown:
        allowed = f"inputs out of {', '.join(INPUTS)}"
        raise UsageError("method", f"{name}, whose inputs have {unknown[0]!r}", allowed, "correct Method.inputs")
    return method._replace(inputs=tuple(method.inputs), fields=tuple(method.fields))


__all__ = ["Choice", "ClosedForm", "Method", "Rows", "Server", "find_method", "text_logits"]
