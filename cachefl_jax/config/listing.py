"""The fields of a config as a user reads them."""

from collections.abc import Sequence

from cachefl_jax.config.field import Field
from cachefl_jax.config.fields import FIELDS
from cachefl_jax.errors import UsageError

TRACED = "; a sweep varies it without compiling anew"


def listing(words: Sequence[str] = (), own: Sequence[Field] = ()) -> str:
    """The fields as flags at their defaults, each with its meaning and what it may be.

    Args:
        words: beginnings of names, such as "local" or "data.shots"; none = all fields.
        own: further fields, which a user's components bring.

    Raises UsageError: no field's name begins with a word."""
    fields = (*FIELDS, *own)
    for word in words:
        if not any(begins(field.name, word) for field in fields):
            groups = ", ".join(dict.fromkeys(field.name.split(".")[0] for field in fields))
            raise UsageError("command line", word, f"the beginning of a field's name: {groups}", "correct the word")
    chosen = [field for field in fields if not words or any(begins(field.name, word) for word in words)]
    return "\n".join(
        f"--config.{field.name}={shown(field.default)}\n    {field.meaning}\n    {field.allowed}{TRACED * field.traced}"
        for field in chosen
    )


def begins(name: str, word: str) -> bool:
    """Whether a dotted name begins with these whole parts."""
    return f"{name}.".startswith(f"{word.rstrip('.')}.")


def shown(value: object) -> str:
    """A default as a command line takes it."""
    if isinstance(value, tuple):
        return '"(' + ",".join(repr(item) for item in value) + ')"'
    return str(value)
