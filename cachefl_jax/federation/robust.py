"""Aggregations that hold where some clients are hostile: they compare the clients' whole updates, side by side.

All clients count the same: a hostile one could claim any number of rows. Whoever knows no more than the updates can
hold against less than half of the clients.

Axis letters: M clients of a cohort, C clients, P numbers of an update.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from cachefl_jax.federation.aggregation import Aggregation, Received, equal

WEISZFELD = 32  # steps to the geometric median; each comes nearer by about the same factor
SMOOTHING = 1e-6  # the least distance that a step divides by, as in the paper
CLIPPINGS = 3  # steps of centred clipping a round
TINY = jnp.finfo(jnp.float32).tiny


def as_rows(updates) -> tuple[jax.Array, Callable[[jax.Array], Any]]:
    """(updates [M, ...] as rows [M, P], the way back from one row)."""
    one = ravel_pytree(jax.tree.map(lambda leaf: leaf[0], updates))[1]
    return jax.vmap(lambda update: ravel_pytree(update)[0])(updates), one


def on_rows(function: Callable[[jax.Array, Received], jax.Array], **more) -> Aggregation:
    """The aggregation of a function of whole updates: (rows [M, P], received) -> [P]."""

    def collect(updates, received: Received):
        rows, back = as_rows(updates)
        return back(function(rows, received))

    return Aggregation(weigh=equal, collect=collect, **more)


def weighted_mean(rows: jax.Array, weights: jax.Array) -> jax.Array:
    """[P]; zeros where all weights are 0."""
    return weights @ rows / jnp.maximum(weights.sum(), TINY)


def lengths_of(rows: jax.Array) -> jax.Array:
    """L2 norms [M]."""
    return jnp.sqrt(jnp.square(rows).sum(axis=1))


def hostile_among(received: Received) -> jax.Array:
    """How many clients are taken to be hostile: floor(aggregation.hostile x m) of m."""
    return jnp.floor(received.hyper * received.present.sum() + 1e-4).astype(jnp.int32)


def krum_scores(rows: jax.Array, received: Received) -> jax.Array:
    """[M] the sum of each update's squared distances to the m - f - 2 that are nearest; infinite where nobody is."""
    present, places = received.present, jnp.arange(len(rows))
    squares = jax.lax.map(lambda row: jnp.square(rows - row[None]).sum(axis=1), rows)
    others = present[None] & (places[:, None] != places[None])
    ascending = jnp.sort(jnp.where(others, squares, jnp.inf), axis=1)
    nearest = jnp.maximum(present.sum() - hostile_among(received) - 2, 1)
    return jnp.where(present, jnp.where(places[None] < nearest, ascending, 0).sum(axis=1), jnp.inf)


def nearest_update(rows: jax.Array, received: Received) -> jax.Array:
    """Krum: the update with the lowest score."""
    return rows[jnp.argmin(krum_scores(rows, received))]


def mean_of_nearest(rows: jax.Array, received: Received) -> jax.Array:
    """Multi-Krum: the mean of the m - f updates with the lowest scores."""
    rank = jnp.argsort(jnp.argsort(krum_scores(rows, received)))
    taken = received.present & (rank < jnp.maximum(received.present.sum() - hostile_among(received), 1))
    return weighted_mean(rows, taken.astype(rows.dtype))


def least_distant(rows: jax.Array, received: Received) -> jax.Array:
    """The point whose distances to the updates have the least sum, by smoothed Weiszfeld steps from their mean."""

    def step(_, point: jax.Array) -> jax.Array:
        return weighted_mean(rows, received.weights / jnp.maximum(lengths_of(rows - point[None]), SMOOTHING))

    return jax.lax.fori_loop(0, WEISZFELD, step, weighted_mean(rows, received.weights))


def clipped_around(rows: jax.Array, received: Received) -> jax.Array:
    """v + mean of (x - v) cut to the length aggregation.radius, a few times over, from the last round's aggregate v."""

    def step(_, centre: jax.Array) -> jax.Array:
        moves = rows - centre[None]
        factors = jnp.minimum(1.0, received.hyper / jnp.maximum(lengths_of(moves), TINY))
        return centre + (received.weights * factors) @ moves

    found = jax.lax.fori_loop(0, CLIPPINGS, step, ravel_pytree(received.state)[0])
    return jnp.where(received.present.any(), found, 0)


def kept_centre(updates, aggregate, received: Received):
    """The aggregate, or what was there where nobody came."""
    del updates
    return jax.tree.map(lambda new, old: jnp.where(received.present.any(), new, old), aggregate, received.state)


def with_history(updates, received: Received):
    """[M, ...] what each client of the cohort has sent so far, this round's update included."""
    return jax.tree.map(lambda before, new: before[received.clients] + new, received.state, updates)


def trust_by_history(history: jax.Array, present: jax.Array) -> jax.Array:
    """FoolsGold's weights, [M] in 0..1: the more alike the histories [M, P] of two clients point, the less both count.

    A client whose likeness is due to another that is more alike still to somebody is pardoned."""
    unit = history / jnp.maximum(lengths_of(history), TINY)[:, None]
    places = jnp.arange(len(unit))
    others = present[None] & present[:, None] & (places[:, None] != places[None])
    cosines = jnp.where(others, unit @ unit.T, 0)
    most = cosines.max(axis=1)
    pardoned = jnp.where(most[:, None] < most[None], most[:, None] / jnp.maximum(most[None], TINY), 1.0)
    weights = jnp.where(present, jnp.clip(1 - (cosines * pardoned).max(axis=1), 0, 1), 0)
    weights = weights / jnp.maximum(weights.max(), TINY)
    weights = jnp.minimum(weights, 0.99)
    logits = jnp.log(jnp.maximum(weights, TINY) / (1 - weights)) + 0.5
    return jnp.where(present, jnp.clip(logits, 0, 1), 0)


def mean_by_history(updates, received: Received):
    """FoolsGold: the mean by `trust_by_history`; zeros where it trusts nobody."""
    (rows, back), (history, _) = as_rows(updates), as_rows(with_history(updates, received))
    return back(weighted_mean(rows, trust_by_history(history, received.present)))


def kept_history(updates, aggregate, received: Received):
    """[C, ...] what every client has sent so far."""
    del aggregate
    nobody = jax.tree.leaves(received.state)[0].shape[0]
    places = jnp.where(received.present, received.clients, nobody)
    return jax.tree.map(lambda before, new: before.at[places].add(new, mode="drop"), received.state, updates)


def mean_by_trust(rows: jax.Array, received: Received) -> jax.Array:
    """The mean of the updates, all as long as the server's own, by their cosines to it, where these are above 0; zeros
    where none is."""
    own = ravel_pytree(received.root)[0]
    length, lengths = jnp.sqrt(jnp.square(own).sum()), lengths_of(rows)
    trust = jnp.maximum(rows @ own / jnp.maximum(length * lengths, TINY), 0)
    return weighted_mean(rows * (length / jnp.maximum(lengths, TINY))[:, None], jnp.where(received.present, trust, 0))


def zeros(*lead: int) -> Callable:
    """Leaf -> zeros in its shape, with leading axes."""
    return lambda leaf: jnp.zeros((*lead, *leaf.shape), leaf.dtype)


# Blanchard et al., NeurIPS 2017, section 4 and multi-Krum of section 5 with m = n - f.
krum = on_rows(nearest_update, hyper=lambda config: config.aggregation.hostile)
multi_krum = on_rows(mean_of_nearest, hyper=lambda config: config.aggregation.hostile)
# Pillutla et al., arXiv 1912.13445, Algorithm 2.
geometric_median = on_rows(least_distant)
# Karimireddy et al., arXiv 2012.10333, eq. (CC).
centred_clipping = on_rows(
    clipped_around,
    state=lambda update, clients: jax.tree.map(zeros(), update),
    keep=kept_centre,
    hyper=lambda config: config.aggregation.radius,
)
# Cao et al., arXiv 2012.13995, Algorithm 2, lines 12-17.
fl_trust = on_rows(mean_by_trust, root=True)
# Fung et al., arXiv 1808.04866, Algorithm 1, with confidence 1 and all numbers of an update.
fools_gold = Aggregation(
    weigh=equal,
    collect=mean_by_history,
    state=lambda update, clients: jax.tree.map(zeros(clients), update),
    keep=kept_history,
)
