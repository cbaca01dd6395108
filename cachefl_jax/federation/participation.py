"""Who takes part in a round, and the one order in which the engine adds their work up."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cachefl_jax.federation.problem import Clients, Cohort


def everybody(clients: int) -> Cohort:
    """The cohort of full participation."""
    return Cohort(jnp.arange(clients, dtype=jnp.int32), jnp.asarray(clients, jnp.int32))


def draw_cohort(key: jax.Array, clients: int, size: int) -> Cohort:
    """`size` of `clients` clients, every set of them equally likely; 0 asks for all. Traced: drawn on the device.

    A small cohort is drawn without touching the population: numbers are drawn with replacement and the first `size`
    different ones are taken, which is the same distribution. There are so many draws that fewer are different with a
    probability below 2^-64 (that all draws lie in one set of
    `size` - 1 numbers, summed over these sets); the cohort would then be smaller.
    """
    if size in (0, clients):
        return everybody(clients)
    if 4 * size >= clients:
        chosen = jnp.argsort(jax.random.bits(key, (clients,)))[:size]
        return Cohort(chosen.astype(jnp.int32), jnp.asarray(size, jnp.int32))
    draws = 2 * size + 32
    picks = jax.random.randint(jax.random.fold_in(key, 0), (draws,), 0, clients)
    order = jnp.argsort(picks, stable=True)  # equal numbers lie together, the one drawn first in front
    repeated = jnp.concatenate([jnp.zeros(1, bool), jnp.diff(picks[order]) == 0])
    fresh = jnp.zeros(draws, bool).at[order].set(~repeated)
    place = jnp.where(fresh, jnp.cumsum(fresh) - 1, size)
    chosen = jnp.zeros(size, jnp.int32).at[place].set(picks, mode="drop")
    return Cohort(chosen, jnp.minimum(fresh.sum(dtype=jnp.int32), size))


def draw_poisson(key: jax.Array, clients: int, size: int) -> Cohort:
    """Each client by itself with probability size / clients, so that `size` come on average, or nobody. Traced."""
    taken = jax.random.uniform(key, (clients,)) < size / clients
    return Cohort(jnp.argsort(~taken, stable=True).astype(jnp.int32), taken.sum(dtype=jnp.int32))


def next_in_turn(number: jax.Array, clients: int, size: int) -> Cohort:
    """The next `size` clients by their numbers in round `number` (from 0), fewer where the last ones come. Traced."""
    first = number % -(-clients // size) * size
    chosen = first + jnp.arange(size, dtype=jnp.int32)
    return Cohort(jnp.minimum(chosen, clients - 1), jnp.minimum(clients - first, size).astype(jnp.int32))


class Participation(NamedTuple):
    """A rule by which cohorts are drawn.

    Attributes:
        draw: (key, clients C, size) -> Cohort of `places` places, traced; by the key of a round alone, so that a run
            cut into pieces anywhere is the same run.
        places: (clients, size) -> M, the most clients of a round.
        always_all: (clients, size) -> whether every round has all of them.
        turn: (round's number, clients, size) -> Cohort, traced, where no chance is in it; instead of `draw`.
        fields: its own in the config.
        check: config -> None; raises a UsageError.
    """

    draw: Callable[[jax.Array, int, int], Cohort]
    places: Callable[[int, int], int]
    always_all: Callable[[int, int], bool] = lambda clients, size: False
    turn: Callable[[jax.Array, int, int], Cohort] | None = None
    fields: tuple = ()
    check: Callable = lambda config: None


cohort = Participation(draw_cohort, lambda clients, size: size or clients, lambda clients, size: size in (0, clients))
full = Participation(
    lambda key, clients, size: everybody(clients), lambda clients, size: clients, lambda clients, size: True
)
poisson = Participation(draw_poisson, lambda clients, size: clients)
cyclic = Participation(
    lambda key, clients, size: next_in_turn(jnp.int32(0), clients, size), lambda clients, size: size,
    lambda clients, size: size == clients, turn=next_in_turn,
)  # fmt: skip


def by_size(drawn: Cohort, clients: Clients) -> tuple[jax.Array, jax.Array]:
    """The cohort's clients and their row counts, [M] each, largest first; those past `size` come last with count 0.

    Equal sizes are ordered by client number. All sums run in this order, so whoever gives the cohort in another gets
    the same bits; it costs one small sort, where sums that no order can change (float64, fixed point) cost a pass over
    the params for every client.
    """
    present = jnp.arange(drawn.clients.shape[0]) < drawn.size
    chosen = jnp.where(present, drawn.clients, 0)
    counts = jnp.where(present, clients.offsets[chosen + 1] - clients.offsets[chosen], 0)
    order = jnp.lexsort((chosen, -counts, ~present))
    return chosen[order], counts[order]


def dealt_places(count: int, devices: int) -> np.ndarray:
    """[devices, count / devices, rounded up] places of a cohort sorted by size: forth and back, so that no device gets
    the larger one of every few clients; still sorted on each. Places past the last one are `count` and more."""
    table = np.arange(-(-count // devices) * devices).reshape(-1, devices)
    back = np.arange(len(table))[:, None] % 2 == 1
    return np.where(back, table[:, ::-1], table).T


def deal(rows: jax.Array | np.ndarray, devices: int) -> jax.Array | np.ndarray:
    """[M, ...] -> [devices, M / devices, ...] by `dealt_places`, padded with zeros."""
    numpy = jnp if isinstance(rows, jax.Array) else np
    padding = [(0, -len(rows) % devices), *[(0, 0)] * (rows.ndim - 1)]
    return numpy.pad(rows, padding)[dealt_places(len(rows), devices)]


def undeal(dealt: jax.Array, count: int) -> jax.Array:
    """[devices, M / devices, ...] -> [M, ...]: what `deal` has dealt, in the cohort's order again."""
    back = np.argsort(dealt_places(count, len(dealt)).reshape(-1))[:count]
    return dealt.reshape(-1, *dealt.shape[2:])[back]
