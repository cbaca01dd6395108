"""What a field of a config is, and what a part of a config brings."""

from collections.abc import Callable
from typing import Any, NamedTuple

from ml_collections import ConfigDict


class Field(NamedTuple):
    """One field; its type is its default's."""

    name: str  # dotted
    default: Any
    meaning: str
    holds: Callable[[Any], bool]  # whether a value of its type is in its range; `cachefl_jax.config.ranges` has them
    allowed: str  # the range in words
    mend: str  # what to do about a value outside
    traced: bool = False  # a sweep varies it without compiling anew


class Unused(NamedTuple):
    """Fields that matter only in some configs."""

    fields: tuple[str, ...]
    matter: Callable[[ConfigDict], bool]
    decided_by: str  # the field that leaves them without effect


def only(fields: tuple[str, ...], decided_by: str, *values: Any) -> Unused:
    """These fields matter only where the field `decided_by` has one of these values."""
    return Unused(fields, lambda config: lookup(config, decided_by) in values, decided_by)


class Part(NamedTuple):
    """What a component of a run brings to the config."""

    fields: tuple[Field, ...]
    check: Callable[[ConfigDict], None] = lambda config: None  # raises `UsageError` where fields contradict each other
    unused: tuple[Unused, ...] = ()


def lookup(config: ConfigDict, field: str) -> Any:
    """The value at a dotted path."""
    for name in field.split("."):
        config = config[name]
    return config


def fits(value: Any, sample: Any) -> bool:
    """Whether `value` may stand where `sample` does; a whole number may stand for a float, a list for a tuple."""
    if isinstance(sample, tuple):
        return isinstance(value, (tuple, list)) and all(isinstance(item, str) for item in value)
    if isinstance(sample, float):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is type(sample)
