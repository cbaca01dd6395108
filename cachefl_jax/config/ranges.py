"""What a field of a config may be: for each kind a test of a value, and words for what passes it."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from cachefl_jax.named import FORMS, Table, has_form

Range = tuple[Callable[[Any], bool], str]
WHOLE = 2**31 - 1  # the largest int32: JAX counts rounds, rows and clients in them
FLOAT32 = 2.0**128 - 2.0**104, 2.0**-126  # the largest, and the smallest that no backend takes for 0


def one_of(*names: str) -> Range:
    """One of these names."""
    return lambda value: value in names, " | ".join(names)


def at_least(least: int, most: int = WHOLE) -> Range:
    """Whole numbers from `least` to `most`."""
    return lambda value: least <= value <= most, f"a whole number, {least} or more, {most} at most"


def finite(low: float = -math.inf, *, open_end: bool = False) -> Range:
    """Numbers from `low` up that are finite in float32; `open_end` takes only those that are above `low` there too."""
    largest, smallest = FLOAT32

    def holds(value: float) -> bool:
        return -largest <= value <= largest and (value >= low + smallest if open_end else value >= low)

    bound = "" if low == -math.inf else f" above {low:g}" if open_end else f", {low:g} or more"
    return holds, f"a finite float32 number{bound}"


def within(low: float, high: float) -> Range:
    """Numbers from `low` up to, not including, `high`."""
    return lambda value: low <= value < high, f"a number from {low:g} up to (not including) {high:g}"


def between(low: float, high: float, *, closed: bool = False) -> Range:
    """Numbers between `low` and `high`, these two included where `closed`."""
    if closed:
        return lambda value: low <= value <= high, f"a number from {low:g} to {high:g}"
    return lambda value: low < value < high, f"a number between {low:g} and {high:g}"


def or_own(holds: Callable[[Any], bool], allowed: str) -> Range:
    """These numbers, or -1 for the one that goes with the choice made in another field."""
    return lambda value: value == -1 or holds(value), f"{allowed}; or -1, the optimizer's own"


def three_splits(names: Sequence[str]) -> bool:
    """Whether these may name the splits for training, validation and test."""
    given = [name for name in names if name]
    return len(names) == 3 and bool(names[0]) and len(set(given)) == len(given)


def distinct(values: Sequence[str]) -> bool:
    """Whether none of these stands twice, or is nothing."""
    return len(set(values)) == len(values) and all(values)


def any_of(*names: str) -> Range:
    """Any of these names, in any order."""
    return lambda values: all(value in names for value in values), f"texts out of {', '.join(names)}"


def whatever(kind: str) -> Range:
    """Every value of the field's type."""
    return lambda _: True, kind


def one_named(table: Table) -> Range:
    """A component: one of ours, or a user's."""
    return lambda name: has_form(name, table), " | ".join((*table, FORMS))


def all_named(table: Table) -> Range:
    """Components, in the order in which they are applied."""
    return lambda names: all(has_form(name, table) for name in names), f"texts out of {', '.join((*table, FORMS))}"


CHOOSE, RAISE, FINITE = "choose one of these", "raise it", "give a finite value in range"  # mends
NONE = "leave it out"
TEXT, TEXTS = whatever("a text, or nothing"), whatever("texts, such as ('one','two'), or ()")
SWITCH = whatever("True or False")
