"""Who takes part in which round, where that is known before the run: `cachefl_jax.clock` computes it.

Axis letters: C clients, R rounds, M clients of a cohort, H versions of the params.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from cachefl_jax.federation.participation import Participation
from cachefl_jax.federation.problem import Clients


class Pace(NamedTuple):
    """How the clients of a cohort work, in its order; None where all do as ever."""

    steps: Any = None  # [M] int32, the most that each does
    ages: Any = None  # [M] int32, how many steps the server has made since the params that each starts from
    discounts: Any = None  # [M] float32, what each weight in the aggregate is multiplied with


AS_EVER = Pace()


class Schedule(NamedTuple):
    """The cohort of each round: `Problem.schedule`. It takes the place of any other participation."""

    clients: Any  # [R, M] int32, in the order of `participation.by_size`; the first of them count
    sizes: Any  # [R] int32, how many
    pace: Pace = AS_EVER  # with a leading [R]


def attending(schedule: Schedule, number: jax.Array, clients: Clients) -> tuple[tuple[jax.Array, jax.Array], Pace]:
    """(the clients of round `number` and their rows, [M] each, as `by_size` gives them; their pace). Traced."""
    chosen, pace = jax.tree.map(lambda leaf: leaf[number], (schedule.clients, schedule.pace))
    present = jnp.arange(len(chosen)) < schedule.sizes[number]
    counts = jnp.where(present, clients.offsets[chosen + 1] - clients.offsets[chosen], 0)
    return (chosen, counts), pace


def not_drawn(key: jax.Array, clients: int, size: int):
    """Instead of a draw."""
    raise ValueError("Problem.schedule has to say who takes part")


scheduled = Participation(not_drawn, lambda clients, size: size)
