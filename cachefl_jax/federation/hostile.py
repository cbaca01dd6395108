"""Clients that want the model to fail: who they are, and what becomes of their updates.

An attack on its own update is a transform, the first of the chain, so that what the server enforces on every update, a
largest norm say, holds for it too. One by all hostile clients together is made where a cohort's updates lie side by
side, after all transforms. What a hostile client's rows are turned into is `local.Poison`.

Axis letters: C clients, M clients of a cohort.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy.special import ndtri

from cachefl_jax.federation.aggregation import Aggregation, Received
from cachefl_jax.federation.problem import Problem
from cachefl_jax.federation.transforms import Sender, Update, scaling, stateless

WHO = np.uint32(2**32 - 6)  # folded into the run's key; no round has this number


class Hostility(NamedTuple):
    """What is known of the hostile clients, traced."""

    share: Any  # [] of all clients
    strength: Any  # [] of the attack
    redrawn: Any  # [] int32, 1: others in every round; 0: the same in all
    classes: Any  # [] int32
    target: Any  # [] int32, the class that a backdoor leads to
    trigger: Any  # [D] unit length, the direction that opens it


def hostile_clients(problem: Problem, number: jax.Array) -> jax.Array | None:
    """[C] bool, who is hostile in round `number`: round(share x C) of all C, by the run's key alone; None: nobody."""
    if not problem.hostile:
        return None
    told = problem.hostile
    key = jax.random.fold_in(jax.random.fold_in(problem.key, WHO), number * told.redrawn)
    rank = jnp.argsort(jnp.argsort(jax.random.uniform(key, (problem.clients.count,))))
    return rank < jnp.round(told.share * problem.clients.count).astype(rank.dtype)


def other_sign(norm: jax.Array, sender: Sender) -> jax.Array:
    """Its update times -strength."""
    return jnp.where(sender.hostile, -sender.hyper, 1.0)


def larger(norm: jax.Array, sender: Sender) -> jax.Array:
    """Its update times the strength."""
    return jnp.where(sender.hostile, sender.hyper, 1.0)


def nothing(norm: jax.Array, sender: Sender) -> jax.Array:
    """No change at all: it takes part for the model alone (arXiv 2006.11901, plain free riding)."""
    return jnp.where(sender.hostile, 0.0, 1.0)


def random_direction(update: Update, sender: Sender) -> Update:
    """Gaussian noise, strength x as long as its update."""
    leaves, structure = jax.tree.flatten(update)
    keys = jax.random.split(sender.key, len(leaves))
    drawn = [jax.random.normal(key, leaf.shape, leaf.dtype) for key, leaf in zip(keys, leaves, strict=True)]
    noise = jax.tree.unflatten(structure, drawn)
    by = sender.hyper * optax.tree.norm(update) / optax.tree.norm(noise)
    return jax.tree.map(lambda own, other: jnp.where(sender.hostile, by * other, own), update, noise)


class Spread(NamedTuple):
    """The honest updates of a cohort, number by number."""

    mean: jax.Array
    deviation: jax.Array
    count: jax.Array  # [] of honest clients
    hostile: jax.Array  # [] of hostile ones


def against_the_mean(honest: Spread, strength: jax.Array) -> jax.Array:
    """-strength x the honest mean: the aggregate's inner product with it falls (arXiv 1903.03936)."""
    return -strength * honest.mean


def little_is_enough(honest: Spread, strength: jax.Array) -> jax.Array:
    """The honest mean less z honest standard deviations (arXiv 1902.06156, Algorithm 3).

    z = strength, or where that is 0 the paper's: so many of the honest clients lie farther out that with the hostile
    ones they are the majority."""
    clients = honest.count + honest.hostile
    needed = clients // 2 + 1 - honest.hostile
    reached = (honest.count - needed) / jnp.maximum(honest.count, 1)
    own = jnp.maximum(ndtri(jnp.clip(reached, 1e-6, 1 - 1e-6)), 0)
    return honest.mean - jnp.where(strength > 0, strength, own) * honest.deviation


def crafted(craft: Callable[[Spread, jax.Array], jax.Array], updates, received: Received):
    """The updates [M, ...], with those of hostile clients as `craft` makes them of the honest ones."""
    told = received.hostile
    honest, hostile = received.present & ~told.among, received.present & told.among
    count = honest.sum()

    def of_leaf(leaf: jax.Array) -> jax.Array:
        wide = lambda rows: rows.reshape(-1, *(1,) * (leaf.ndim - 1))  # noqa: E731
        mean = jnp.where(wide(honest), leaf, 0).sum(axis=0) / jnp.maximum(count, 1)
        squares = jnp.where(wide(honest), jnp.square(leaf - mean[None]), 0).sum(axis=0)
        spread = Spread(mean, jnp.sqrt(squares / jnp.maximum(count, 1)), count, hostile.sum())
        return jnp.where(wide(hostile), craft(spread, told.strength)[None], leaf)

    return jax.tree.map(of_leaf, updates)


@functools.cache  # so that the points of a sweep are one program
def under_attack(aggregation: Aggregation, craft: Callable[[Spread, jax.Array], jax.Array]) -> Aggregation:
    """The aggregation, a weighted sum or one that collects, of updates that hostile clients have made together."""
    change = functools.partial(crafted, craft)

    def collect(updates, received: Received):
        updates = change(updates, received)
        if aggregation.collect is not None:
            return aggregation.collect(updates, received)
        return jax.tree.map(lambda leaf: jnp.tensordot(received.weights, leaf, axes=1), updates)

    def keep(updates, aggregate, received: Received):
        return aggregation.keep(change(updates, received), aggregate, received)

    return aggregation._replace(collect=collect, keep=keep if aggregation.keep else None)


# Of one client by itself, and of all hostile ones together, who know every honest update of the round.
BY_ITSELF = {
    "sign_flip": scaling(other_sign),
    "scaled": scaling(larger),
    "free_rider": scaling(nothing),
    "gaussian": stateless(random_direction),
}
TOGETHER = {"inner_product": against_the_mean, "alie": little_is_enough}
