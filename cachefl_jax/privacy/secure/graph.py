"""Who shares masks and secrets with whom, and whether what is left of a cohort can still be unmasked.

All with all (Bonawitz et al., 2017), or on a ring in an order drawn anew every round, with as many neighbours on either
side (Bell et al., 2020).
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cachefl_jax.config.secure import LEAST_CLIENTS

ORDER = np.uint32(2**32 - 1)  # folded into the server's key of a round for the ring; no client has this number


class Settings(NamedTuple):
    """The static half of a secure sum."""

    bits: int = 24  # of a number that travels: sums are modulo 2^bits
    neighbours: int = 0  # even; 0: all others
    threshold: float = 0.6  # share of a client's neighbours that recovers its secret

    @property
    def modulus_mask(self) -> int:
        """2^bits - 1."""
        return 2**self.bits - 1


def degree(clients: int, neighbours: int) -> int:
    """How many neighbours each of so many clients has."""
    others = max(clients - 1, 0)
    return others if neighbours == 0 else min(neighbours, others)


def shares_needed(neighbours: int, threshold: float) -> int:
    """How many of so many neighbours recover a secret."""
    return max(math.ceil(threshold * neighbours - 1e-9), 1)  # 0.6 x 5 is 3


def neighbours_of(order: list[int], neighbours: int) -> dict[int, list[int]]:
    """The neighbours of each client, in ascending order; `order` are the clients along the ring."""
    count = len(order)
    if degree(count, neighbours) == count - 1:
        return {client: sorted(set(order) - {client}) for client in order}
    steps = [step for step in range(-neighbours // 2, neighbours // 2 + 1) if step]
    return {order[at]: sorted(order[(at + step) % count] for step in steps) for at in range(count)}


def ring(key: jax.Array, clients: jax.Array, present: jax.Array) -> jax.Array:
    """[M] places of a cohort in the order of a round's ring, empty places last. Traced.

    Args:
        key: the server's in this round.
        clients: [M] their numbers.
        present: [M] bool.
    """
    own = jax.random.fold_in(key, ORDER)
    drawn = jax.vmap(lambda client: jax.random.bits(jax.random.fold_in(own, client)))(clients)
    return jnp.lexsort((clients, drawn, ~present))


def recovered(settings: Settings, order: jax.Array, alive: jax.Array, count: jax.Array) -> jax.Array:
    """[] bool: the clients that are left can unmask the sum. Traced.

    The self mask of each client that is left, and the pairwise masks of each that is gone, are recovered by its
    neighbours that are left; of a client that is gone without any, no mask is in the sum.

    Args:
        settings: of the sum.
        order: [M] of `ring`.
        alive: [M] bool, by place: its update has come.
        count: [] int32, how many clients the round began with.
    """
    places, neighbours = len(order), settings.neighbours
    inside, alive = jnp.arange(places) < count, alive[order]
    degrees = jnp.maximum(count - 1, 0)
    around = alive.sum() - alive
    if 0 < neighbours < places - 1:
        steps = np.r_[-neighbours // 2 : 0, 1 : neighbours // 2 + 1]
        near = alive[(jnp.arange(places)[:, None] + steps[None]) % jnp.maximum(count, 1)].sum(axis=1)
        around = jnp.where(neighbours < degrees, near, around)
        degrees = jnp.minimum(degrees, neighbours)
    needed = jnp.asarray([shares_needed(number, settings.threshold) for number in range(places)])[degrees]
    sound = (around >= needed) | (~alive & (around == 0))
    return (count >= LEAST_CLIENTS) & alive.any() & (sound | ~inside).all()
