"""How the updates of a cohort become one aggregate.

Most are a weighted sum, added up client by client in constant memory, and on coefficients too. Others fold each update
into a total by rules of their own (`Aggregation.add`). Where all updates are needed at once, `collect` keeps them side
by side, [M, ...]: memory grows with the cohort, and a plan that does not fit is refused before anything runs.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Attackers(NamedTuple):
    """Hostile clients that make their updates together."""

    among: jax.Array  # [M] bool
    strength: jax.Array  # []


class Received(NamedTuple):
    """The cohort, as an aggregation sees it."""

    weights: jax.Array  # [M] what `weigh` gave
    present: jax.Array  # [M] bool; the other places of the cohort are empty
    hyper: Any  # the aggregation's traced numbers
    clients: jax.Array | None = None  # [M] int32, their numbers
    key: jax.Array | None = None  # the server's in this round
    state: Any = ()  # what the aggregation keeps
    hostile: Attackers | None = None
    root: Any = None  # the server's own update, where the aggregation asks for it


def proportional(counts: jax.Array, present: jax.Array) -> jax.Array:
    """By rows, as FedAvg has it, [M]; they add up to 1."""
    del present
    return counts / jnp.maximum(counts.sum(), 1)


def equal(counts: jax.Array, present: jax.Array) -> jax.Array:
    """1 / m for each of m clients, [M]."""
    del counts
    return present / jnp.maximum(present.sum(), 1)


def one_each(counts: jax.Array, present: jax.Array) -> jax.Array:
    """1 for each client, [M]."""
    del counts
    return present.astype(jnp.float32)


def in_double(update):
    """Zeros of float64 in the update's shapes."""
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.float64), update)


def add_in_double(total, update, weight: jax.Array):
    """total + weight x update, in the total's type."""
    return jax.tree.map(lambda sums, leaf: sums + weight.astype(sums.dtype) * leaf.astype(sums.dtype), total, update)


def add_totals(total, other):
    """Of two devices."""
    return jax.tree.map(jnp.add, total, other)


class Aggregation(NamedTuple):
    """An aggregation. All functions are traced; a client without rows takes no part.

    Attributes:
        weigh: (rows of each client [M], present [M]) -> weights [M], 0 where nobody is.
        collect: (updates [M, ...], Received) -> aggregate; updates of empty places are zeros.
        add: (total, update, weight) -> total, where it is not total + weight x update.
        merge: (total, total) -> total of two devices; with `add`.
        zero: update -> the empty total; with `add`.
        finish: (total, Received) -> aggregate.
        state: (shapes of an update, C) -> what the server keeps for it from round to round, at round 0.
        keep: (total, or with `collect` the updates [M, ...], aggregate, Received) -> the state after a round.
        hyper: config -> its numbers, a pytree of floats; a sweep varies them without compiling anew.
        size: bytes of an update as the transforms leave it -> bytes that a client sends.
        size_down: bytes that a client gets for it beside the params.
        fields: its own in the config.
        check: config -> None; raises a UsageError.
        root: asks for `Received.root`: the update of a client that holds `problem.Problem.root`.
    """

    weigh: Callable[[jax.Array, jax.Array], jax.Array] = proportional
    collect: Callable[[Any, Received], Any] | None = None
    add: Callable[[Any, Any, jax.Array], Any] | None = None
    merge: Callable[[Any, Any], Any] | None = None
    zero: Callable[[Any], Any] | None = None
    finish: Callable[[Any, Received], Any] | None = None
    state: Callable[[Any, int], Any] = lambda update, clients: ()
    keep: Callable[[Any, Any, Received], Any] | None = None
    hyper: Callable[[Any], Any] = lambda config: ()
    size: Callable[[float], float] = lambda size: size
    size_down: int = 0
    fields: tuple = ()
    check: Callable[[Any], None] = lambda config: None
    root: bool = False

    @property
    def linear(self) -> bool:
        """Whether it is a weighted sum."""
        return self.collect is None and self.add is None


def share_of_all(aggregation: Aggregation, rows: jax.Array, chosen: jax.Array, received: Received) -> jax.Array:
    """What the cohort's aggregate counts in the mean over all clients, of which it is a part, [].

    |S| / N where clients count the same, the cohort's rows over all rows where they count by rows; over the sum of the
    cohort's weights, so that it is 1 / N of a sum.

    Args:
        aggregation: weighs all clients as it weighs the cohort.
        rows: [C] of each client.
        chosen: [M] the cohort's numbers.
        received: the cohort's weights, and who is present.
    """
    weights, tiny = aggregation.weigh(rows, rows > 0), jnp.finfo(jnp.float32).tiny
    attending = jnp.where(received.present, weights[chosen], 0).sum()
    return attending / jnp.maximum(weights.sum() * received.weights.sum(), tiny)


def collect(function: Callable[[jax.Array, Received], jax.Array], **more) -> Aggregation:
    """The aggregation that treats each leaf [M, ...] of the updates by itself: (leaf, received) -> [...]."""

    def each_leaf(updates, received: Received):
        return jax.tree.map(lambda leaf: function(leaf, received), updates)

    return Aggregation(weigh=equal, collect=each_leaf, **more)


def in_order(updates: jax.Array, received: Received) -> tuple[jax.Array, jax.Array]:
    """(each number of the updates [M, ...] in ascending order over those present, then infinities; how many are)."""
    present = received.present.reshape(-1, *(1,) * (updates.ndim - 1))
    return jnp.sort(jnp.where(present, updates, jnp.inf), axis=0), received.present.sum()


def coordinate_median(updates: jax.Array, received: Received) -> jax.Array:
    """Each number's median over the clients; the mean of the middle two where their number is even."""
    ascending, count = in_order(updates, received)
    low, high = (jnp.maximum(count - 1, 0) // 2, count // 2)
    middle = (ascending[low] + ascending[jnp.minimum(high, len(updates) - 1)]) / 2
    return jnp.where(count > 0, middle, 0)


def mean_within(updates: jax.Array, received: Received) -> jax.Array:
    """Each number's mean over the clients without the floor(trim m) lowest and as many highest of m."""
    ascending, count = in_order(updates, received)
    cut = jnp.floor(received.hyper * count + 1e-4).astype(count.dtype)  # 0.1 x 10 is 1, also in float32
    places = jnp.arange(len(updates)).reshape(-1, *(1,) * (updates.ndim - 1))
    inside = (places >= cut) & (places < count - cut)
    return jnp.where(inside, ascending, 0).sum(axis=0) / jnp.maximum(count - 2 * cut, 1)


mean = Aggregation()
uniform = Aggregation(weigh=equal)
sum = Aggregation(weigh=one_each)
# Of a closed form, whose server's side is traced with float64.
double_sum = Aggregation(weigh=one_each, zero=in_double, add=add_in_double, merge=add_totals)
each = Aggregation(weigh=one_each, collect=lambda updates, received: updates)
# Yin et al., arXiv 1803.01498.
median = collect(coordinate_median)
trimmed_mean = collect(mean_within, hyper=lambda config: config.aggregation.trim)
