"""Who takes part in a round, in the one order in which the engine adds their work up."""

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
    different ones are taken, which is the same distribution.
    """
    if size in (0, clients):
        return everybody(clients)
    if 4 * size >= clients:
        chosen = jnp.argsort(jax.random.bits(key, (clients,)))[:size]
        return Cohort(chosen.astype(jnp.int32), jnp.asarray(size, jnp.int32))
    draws = 2 * size + 32  # of which, at a quarter of the population, 1.5 `size` are different

    def attempt(state):
        number, _, _ = state
        picks = jax.random.randint(jax.random.fold_in(key, number), (draws,), 0, clients)
        order = jnp.argsort(picks, stable=True)  # equal numbers lie together, the one drawn first in front
        repeated = jnp.concatenate([jnp.zeros(1, bool), jnp.diff(picks[order]) == 0])
        fresh = jnp.zeros(draws, bool).at[order].set(~repeated)
        place = jnp.where(fresh, jnp.cumsum(fresh) - 1, size)
        return number + 1, jnp.zeros(size, jnp.int32).at[place].set(picks, mode="drop"), fresh.sum() >= size

    state = (jnp.zeros((), jnp.int32), jnp.zeros(size, jnp.int32), jnp.asarray(False))
    _, chosen, _ = jax.lax.while_loop(lambda state: ~state[2], attempt, state)
    return Cohort(chosen, jnp.asarray(size, jnp.int32))


def by_size(cohort: Cohort, clients: Clients) -> tuple[jax.Array, jax.Array]:
    """The cohort's clients and their row counts, [M] each, largest first; those past `size` come last with count 0.

    Equal sizes are ordered by client number. All sums run in this order, so whoever gives the cohort in another gets
    the same bits; it costs one small sort, where sums that no order can change (float64, fixed point) cost a pass over
    the keys for every client.
    """
    present = jnp.arange(cohort.clients.shape[0]) < cohort.size
    chosen = jnp.where(present, cohort.clients, 0)
    counts = jnp.where(present, clients.offsets[chosen + 1] - clients.offsets[chosen], 0)
    order = jnp.lexsort((chosen, -counts, ~present))
    return chosen[order], counts[order]


def deal(sorted_rows: jax.Array | np.ndarray, devices: int) -> jax.Array | np.ndarray:
    """[M] -> [devices, M / devices], padded with zeros: forth and back, so that no device gets the larger one of every
    few clients; still sorted on each."""
    numpy = jnp if isinstance(sorted_rows, jax.Array) else np
    table = numpy.pad(sorted_rows, (0, -len(sorted_rows) % devices)).reshape(-1, devices)
    back = np.arange(len(table))[:, None] % 2 == 1
    return numpy.where(back, table[:, ::-1], table).T
