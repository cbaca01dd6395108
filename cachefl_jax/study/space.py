"""What a study tries of a row: its method's search space, and a seeded draw of as many points for every row."""

import math
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.config import Row, lookup
from cachefl_jax.methods import find_method
from cachefl_jax.methods.method import Choice
from cachefl_jax.simulation.contenders import config_of

# Of a method that says nothing of its own; AdamW and SGD find what suits them at opposite ends.
OPTIMIZER = Choice("local.optimizer", ("adamw", "sgd"))
RATE = Choice("local.learning_rate", (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1))


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


def candidates(config: ConfigDict, row: Row) -> Iterator[Candidate]:
    """The points of a row's space, the config as it is first, the others in an order that config.seed draws. The row's
    method draws along, so that its regimes are tried at the same points."""
    space = space_of(row)
    own = config_of(config, row)
    as_it_is = {choice.field: lookup(own, choice.field) for choice in space}
    yield Candidate(0, as_it_is)
    number, sizes = 1, [len(choice.values) for choice in space]
    for place in np.random.default_rng([config.seed, zlib.crc32(row.method.encode())]).permutation(math.prod(sizes)):
        at = np.unravel_index(place, sizes) if sizes else ()
        values = {choice.field: choice.values[index] for choice, index in zip(space, at, strict=True)}
        if values != as_it_is:
            yield Candidate(number, values)
            number += 1
