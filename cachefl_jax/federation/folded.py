"""A cohort in the order in which its work is added up, and what has been added up so far."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from cachefl_jax.federation.parts import Federation
from cachefl_jax.federation.primal.client import Sent
from cachefl_jax.federation.problem import Drift
from cachefl_jax.federation.work import Params


class Members(NamedTuple):
    """A round's clients, the largest first; empty places come last."""

    clients: jax.Array  # [M] int32 numbers
    counts: jax.Array  # [M] their rows, 0 in an empty place
    weights: jax.Array  # [M] of their updates in the aggregate
    shares: jax.Array  # [M] of their rows in the cohort's
    states: Any = ()  # what they keep, [M, ...]
    steps: jax.Array | None = None  # [M] the most that each does, where that may be fewer than its rows ask for
    ages: jax.Array | None = None  # [M] how many rounds ago the params were sent that each starts from


class Spread(NamedTuple):
    """What `Drift` follows from, added up."""

    lengths: jax.Array  # [] sum w |d|
    squares: jax.Array  # [] sum w^2 |d|^2
    change: Any  # sum w d, where the aggregate is something else; else ()


class Folded(NamedTuple):
    """What has been added up of some clients."""

    total: Any  # of their updates; where the aggregation collects, the updates themselves [M, ...]
    loss: jax.Array  # [] their share of the mean loss
    spread: Spread | None
    states: Any  # [M, ...] what the clients keep now
    told: Any = ()  # [T] beside the updates, where a transform tells something


def changes_are_updates(federation: Federation) -> bool:
    """Whether what is aggregated is the weighted sum of the clients' changes of the params."""
    plain = not federation.transforms and federation.local.work.sends_change
    return plain and federation.aggregation.linear


def nothing_yet(federation: Federation, params: Params, update, members: Members) -> Folded:
    """Before the first client; `update` are the shapes of one."""
    aggregation, zeros = federation.aggregation, lambda *lead: lambda leaf: jnp.zeros((*lead, *leaf.shape), leaf.dtype)
    total = jax.tree.map(zeros(len(members.clients)) if aggregation.collect else zeros(), update)
    if aggregation.zero is not None:
        total = aggregation.zero(total)
    spread = None
    if federation.drift:
        sent = federation.local.work.travelling(params)
        change = () if changes_are_updates(federation) else jax.tree.map(jnp.zeros_like, sent)
        spread = Spread(jnp.zeros(()), jnp.zeros(()), change)
    told = jnp.zeros(len(federation.transforms)) if federation.tells else ()
    return Folded(total, jnp.zeros((), jnp.float32), spread, members.states, told)


def add_one(federation: Federation, folded: Folded, members: Members, place: jax.Array, sent: Sent) -> Folded:
    """One client more, at `place`."""
    aggregation, weight, total = federation.aggregation, members.weights[place], folded.total
    if aggregation.collect is not None:
        total = jax.tree.map(lambda all_of_them, one: all_of_them.at[place].set(one), total, sent.update)
    elif aggregation.add is not None:
        total = aggregation.add(total, sent.update, weight)
    else:
        total = jax.tree.map(lambda total, one: total + weight * one, total, sent.update)
    states = jax.tree.map(lambda all_of_them, one: all_of_them.at[place].set(one), folded.states, sent.state)
    spread = folded.spread
    if spread is not None:
        length = weight * optax.tree.norm(sent.change)
        own = () if changes_are_updates(federation) else sent.change
        change = jax.tree.map(lambda total, one: total + weight * one, spread.change, own)
        spread = Spread(spread.lengths + length, spread.squares + length**2, change)
    told = jax.tree.map(jnp.add, folded.told, sent.told)
    return Folded(total, folded.loss + members.shares[place] * sent.loss, spread, states, told)


def add_many(
    federation: Federation, folded: Folded, members: Members, first: jax.Array | int, sent: Sent, fused: bool = False
) -> Folded:
    """Clients side by side, [L, ...], from place `first` on; empty places among them come last.

    `fused`: the sum is one with what makes the updates, which an accelerator then never writes; a CPU sums faster by a
    product."""
    count = len(sent.loss)
    weights, shares = (jax.lax.dynamic_slice(rows, (first,), (count,)) for rows in (members.weights, members.shares))
    present = jax.lax.dynamic_slice(members.counts, (first,), (count,)) > 0
    put = lambda whole, part: jax.lax.dynamic_update_slice_in_dim(whole, part, first, axis=0)  # noqa: E731
    weigh = functools.partial(weighed, weights, fused)
    aggregation, total = federation.aggregation, folded.total
    if aggregation.collect is not None:
        total = jax.tree.map(put, total, jax.tree.map(lambda leaf: zeroed(leaf, present), sent.update))
    elif aggregation.add is not None:
        total, _ = jax.lax.scan(lambda total, one: (add_if(aggregation, total, one), None), total,
                                (sent.update, weights, present))  # fmt: skip
    else:
        total = jax.tree.map(weigh, total, sent.update)
    spread = folded.spread
    if spread is not None:
        lengths = weights * jax.vmap(optax.tree.norm)(sent.change)
        change = jax.tree.map(weigh, spread.change, () if changes_are_updates(federation) else sent.change)
        spread = Spread(spread.lengths + lengths.sum(), spread.squares + (lengths**2).sum(), change)
    states = jax.tree.map(put, folded.states, sent.state)
    told = jax.tree.map(lambda total, each: total + zeroed(each, present).sum(axis=0), folded.told, sent.told)
    return Folded(total, folded.loss + jnp.vdot(shares, sent.loss), spread, states, told)


def weighed(weights: jax.Array, fused: bool, total: jax.Array, changes: jax.Array) -> jax.Array:
    """The total with changes [L, ...] by their weights [L]."""
    if fused:
        return total + (weights.reshape(-1, *(1,) * (changes.ndim - 1)) * changes).sum(axis=0)
    return total + jnp.tensordot(weights, changes, axes=1)


def add_if(aggregation, total, one: tuple):
    """The total with (update, weight, present), or without it."""
    update, weight, present = one
    return jax.tree.map(lambda new, old: jnp.where(present, new, old), aggregation.add(total, update, weight), total)


def zeroed(updates: jax.Array, present: jax.Array) -> jax.Array:
    """Updates [L, ...] with zeros where nobody is."""
    return jnp.where(present.reshape(-1, *(1,) * (updates.ndim - 1)), updates, 0)


def drift_of(spread: Spread, change: Params, weights: jax.Array) -> Drift:
    """What a round tells; `change` is sum w d."""
    norm, tiny = optax.tree.norm(change), jnp.finfo(jnp.float32).tiny
    return Drift(
        update_norm=spread.lengths / jnp.maximum(weights.sum(), tiny),
        cosine_to_mean=norm / jnp.maximum(spread.lengths, tiny),
        gradient_diversity=spread.squares / jnp.maximum(norm**2, tiny),
    )
