"""What a study tries of a row: as many points of its method's search space for every row, drawn by a seed."""

import itertools
import math
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.config import FIELDS, Row, fields_of_rows, fits, lookup, own_fields
from cachefl_jax.errors import UsageError
from cachefl_jax.methods import find_method
from cachefl_jax.methods.method import Choice
from cachefl_jax.simulation.contenders import config_of

# Of a method that says nothing of its own; AdamW and SGD find what suits them at opposite ends.
OPTIMIZER = Choice("local.optimizer", ("adamw", "sgd"))
RATE = Choice("local.learning_rate", (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1))
# Of rounds with noise for privacy: it grows with the bound, and methods' updates are not equally long.
BOUND = Choice("privacy.clip_norm", (0.01, 0.03, 0.1, 0.3, 1.0))


class Candidate(NamedTuple):
    """A point of a row's search space."""

    number: int  # in the order in which they are tried; 0 is the config as it is
    values: dict[str, Any]  # of every field that is searched


def space_of(row: Row) -> tuple[Choice, ...]:
    """The choices that a row has. What is not trained has no rate to choose, and zero-shot CLIP nothing."""
    method = find_method(row.method)
    if row.regime == "zero_shot":
        return ()
    if row.regime == "round_0":
        own = {field.name for field in method.fields}
        return tuple(choice for choice in method.search if choice.field in own)
    named = {choice.field for choice in method.search}
    usual = () if method.closed_form is not None else (OPTIMIZER, RATE)
    if not named.isdisjoint(choice.field for choice in usual):
        usual = ()
    return (*method.search, *usual)


def check_space(config: ConfigDict, row: Row) -> None:
    """Whether a method's search names fields that a row has of its own, and values that they may have.

    Raises UsageError: it does not; one value that is wrong would never be tried, and nobody would know."""
    where, search = f"the search of {row.method}", find_method(row.method).search
    allowed, known = fields_of_rows(config), {field.name: field for field in (*FIELDS, *own_fields(config))}
    for choice in search if isinstance(search, (tuple, list)) else (search,):
        if not isinstance(choice, Choice) or not isinstance(choice.values, (tuple, list)):
            form = "a tuple of cachefl_jax.methods.Choice(field, (value, ...))"
            raise UsageError(where, repr(choice), form, "write it so")
        field = known.get(choice.field)
        if field is None or not {choice.field, f"{choice.field.split('.')[0]}.*"} & set(allowed):
            raise UsageError(where, choice.field, ", ".join(allowed), "correct the field, or leave it out")
        for value in choice.values:
            if not (fits(value, field.default) and field.holds(value)):
                raise UsageError(f"{where}, {choice.field}", value, field.allowed, field.mend)


def grid_of(config: ConfigDict, row: Row) -> list[Choice]:
    """The choices that a row has, of each field the config's own value first."""
    own, choices = config_of(config, row), space_of(row)
    if row.regime == "federated" and own.privacy.mechanism != "none" and not own.privacy.quantile:
        choices = (*choices, BOUND)
    return [Choice(field, tuple(dict.fromkeys((lookup(own, field), *values)))) for field, values in choices]


def most_points(config: ConfigDict, row: Row) -> int:
    """How many points of a row a study may try: its budget, or all that there are."""
    return min(config.study.budget, math.prod(len(choice.values) for choice in grid_of(config, row)))


def candidates(config: ConfigDict, row: Row) -> Iterator[Candidate]:
    """The points of a row's space: the config as it is first, then those that `in_balance` has next, each field with
    the config's own value among its choices. The row's method draws along with config.seed, so that its regimes are
    tried at the same points."""
    space = grid_of(config, row)
    generator = np.random.default_rng([config.seed, zlib.crc32(row.method.encode())])
    for number, point in enumerate(in_balance(space, generator)):
        yield Candidate(number, {choice.field: choice.values[at] for choice, at in zip(space, point, strict=True)})


def in_balance(space: list[Choice], generator: np.random.Generator) -> Iterator[tuple[int, ...]]:
    """All points of a grid, as places in each choice's values, [0, 0, ...] first. The next one is always one whose
    values were tried least often so far, an optimizer with its rate counting first, so that few points try everything
    about as often, as a Latin hypercube does. Among equals the generator chooses.
    """
    first, *others = itertools.product(*(range(len(choice.values)) for choice in space))
    waiting = [first, *(others[at] for at in generator.permutation(len(others)))]
    rated = [at for at, choice in enumerate(space) if choice.field in (OPTIMIZER.field, RATE.field)]
    tried = Counter()

    def values(point: tuple[int, ...]) -> list:
        return [(at, place) for at, place in enumerate(point) if at not in rated]

    def often(point: tuple[int, ...]) -> tuple[int, int]:
        return tried[tuple(point[at] for at in rated)], sum(tried[value] for value in values(point))

    point = first
    while True:
        waiting.remove(point)
        tried.update([tuple(point[at] for at in rated), *values(point)])
        yield point
        if not waiting:
            return
        point = min(waiting, key=often)
