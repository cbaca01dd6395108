"""A cohort's work on coefficients, block by block, and its weighted sum (see `dual`)."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cachefl_jax.federation.dual.block import Block, Task, cut_block
from cachefl_jax.federation.dual.gram import capacity_of
from cachefl_jax.federation.dual.train import Trained, train_block
from cachefl_jax.federation.folded import Folded, Members, Spread, changes_are_updates
from cachefl_jax.federation.local import step_count
from cachefl_jax.federation.parts import Federation
from cachefl_jax.federation.plan import Plan
from cachefl_jax.federation.primal import fold_parts, fold_scan
from cachefl_jax.federation.primal.client import sender
from cachefl_jax.federation.timetable import Part, count_above, parts_of
from cachefl_jax.federation.work import Client, Start

LARGE_CLIENTS = 16  # of more rows than D, side by side on the params


class Span(NamedTuple):
    """Which clients of the sorted cohort a block may have: from `first` on, none from `after` on, if there is room."""

    first: jax.Array | int
    after: jax.Array | int
    rows: int  # R, the room


def fold_blocks(federation: Federation, plan: Plan, start: Start, members: Members) -> Folded:
    """All members, as `primal.fold_scan` gives them. `plan.client_chunk` clients are side by side, and
    `plan.block_rows` rows are at least those of the largest client that trains on coefficients. Traced."""
    (leaf,), structure = jax.tree.flatten(start.params)
    server, large = leaf.reshape(-1, leaf.shape[-1]), members.counts > leaf.shape[-1]
    own = members._replace(counts=jnp.where(large, 0, members.counts))
    task = make_task(federation, plan, start, own, leaf.shape)
    factors, extra = client_factors(federation, start, own)
    spread = Spread(jnp.zeros(()), jnp.zeros(()), server * 0) if federation.drift else None
    told = jnp.zeros(len(federation.transforms)) if federation.tells else ()
    zeros = (jnp.zeros_like(server), jnp.zeros(()), spread, told)
    add, many = (
        functools.partial(add_block, federation, factors, server),
        count_above(federation.sizes, server.shape[1]),
    )
    known = sum(count for _, count in federation.sizes)
    parts = parts_of(federation.sizes, (many, known), plan.client_chunk, plan.block_rows, federation.exact)
    if parts is None:
        first = large.sum()
        folded = add_unknown(add, task, Span(first, first + (own.counts > 0).sum(), plan.block_rows), zeros)
    else:
        folded = add_known(add, task if federation.exact else with_room(task, parts), parts, zeros)
    total, loss, spread, told = folded
    tree = lambda array: jax.tree.unflatten(structure, [array.reshape(leaf.shape)])  # noqa: E731
    if spread is not None:
        spread = spread._replace(change=() if changes_are_updates(federation) else tree(spread.change))
    total = tree(total) if extra is None else (tree(total), (jnp.where(own.counts > 0, own.weights, 0) * extra).sum())
    folded = Folded(total, loss, spread, members.states, told)
    if federation.local.capacity <= leaf.shape[-1]:
        return folded
    others = fold_large(federation, plan, start, members._replace(counts=jnp.where(large, members.counts, 0)))
    return jax.tree.map(jnp.add, folded._replace(states=()), others._replace(states=()))._replace(states=members.states)


def fold_large(federation: Federation, plan: Plan, start: Start, members: Members) -> Folded:
    """The clients that train on the params, which come first; the others have count 0."""
    width = jax.tree.leaves(start.params)[0].shape[-1]
    side_by_side = min(plan.client_chunk, LARGE_CLIENTS)
    parts = parts_of(federation.sizes, (0, count_above(federation.sizes, width)), side_by_side)
    return fold_scan(federation, start, members) if parts is None else fold_parts(federation, parts, start, members)


def add_known(add: Callable, task: Task, parts: list[Part], zeros: tuple) -> tuple:
    """What all blocks add up to, where each block's clients are known while tracing."""
    folded = zeros
    for part in parts:
        span = Span(part.first, part.first + len(part.rows), int(part.rows.sum()))
        _, folded = add(task._replace(lanes=len(part.rows), rows=part.rows), span, folded)
    return folded


def with_room(task: Task, parts: list[Part]) -> Task:
    """The task with its rows laid out by the most that each place may have."""
    room = np.concatenate([part.rows for part in parts])
    ends = np.cumsum(np.pad(room, (0, len(task.ends) - len(room))), dtype=np.int32)
    return task._replace(ends=jnp.asarray(ends), begins=jnp.asarray(ends - np.diff(ends, prepend=0)))


def add_unknown(add: Callable, task: Task, span: Span, zeros: tuple) -> tuple:
    """What all blocks add up to that the clients of `span` take."""
    return jax.lax.while_loop(
        lambda carry: carry[0] < span.after,
        lambda carry: add(task, span._replace(first=carry[0]), carry[1]),
        (span.first, zeros),
    )[1]


def add_block(federation: Federation, factors: jax.Array, server: jax.Array, task: Task, span: Span, folded: tuple):
    """(the client after the block's last one, what has been added up with the block's clients)."""
    (total, loss, spread, told), own, (first, after, rows) = folded, task.members, span
    block = cut_block(task, rows, server, first)
    if task.rows is None:
        after = jnp.minimum((task.ends <= block.begin + rows).sum(), after)
    trained = train_block(task, block, first, after)
    among = (jnp.arange(len(own.counts)) >= first) & (jnp.arange(len(own.counts)) < after)
    weights = jnp.where(among, own.weights, 0)
    by, tells = transform_factors(federation, task.start, own, trained.lengths * factors)
    scales, told = (
        factors * by,
        jax.tree.map(lambda sums, each: sums + jnp.where(among, each.T, 0).sum(-1), told, tells),
    )
    total = total + weighted_change(task, block, trained, weights * scales, server)
    if spread is not None:
        lengths, change = weights * trained.lengths, spread.change
        if not changes_are_updates(federation):
            change = change + weighted_change(task, block, trained, weights, server)
        spread = Spread(spread.lengths + lengths.sum(), spread.squares + (lengths**2).sum(), change)
    loss = loss + jnp.where(among, own.shares * trained.losses, 0).sum()
    return after, (total, loss, spread, told)


def make_task(federation: Federation, plan: Plan, start: Start, members: Members, shape: tuple[int, ...]) -> Task:
    """What the blocks share, for params of this shape."""
    local = federation.local
    capacity = -(-capacity_of(local, shape[-1]) // local.batch_size) * local.batch_size
    measured = federation.drift or bool(federation.transforms)
    sized = local._replace(capacity=capacity)
    ends = jnp.cumsum(members.counts)
    return Task(sized, plan.client_chunk, shape[:-1], measured, start, members, ends, ends - members.counts)


def weighted_change(task: Task, block: Block, trained: Trained, weights: jax.Array, server: jax.Array) -> jax.Array:
    """sum over the block's clients of weight (W_c - W_0), [J, D]; weights [M], 0 for all others."""
    inside = block.begin + jnp.arange(len(block.owner)) < task.ends[-1]
    of_row = jnp.where(inside, weights[block.owner] * trained.scale, 0)[:, None]
    # Whichever there are fewer of is weighed.
    fewer = len(server) < server.shape[1]
    rows, features = (trained.rows * of_row, block.features) if fewer else (trained.rows, block.features * of_row)
    change = jax.lax.dot_general(rows, features, (((0,), (0,)), ((), ())))
    pull = jnp.where(weights == 0, 0, weights * (trained.decay - 1)).sum()
    return change + pull * server


def client_factors(federation: Federation, start: Start, members: Members) -> tuple[jax.Array, jax.Array | None]:
    """(factors [M] of an algorithm like FedNova, what its updates have besides [M]); (1, None) for FedAvg."""
    scale = federation.local.work.scale
    if scale is None:
        return jnp.ones(()), None
    steps = step_count(federation.local, members.counts)
    return jax.vmap(lambda count: scale(federation.local, count, start.problem.hyper))(steps)


def transform_factors(federation: Federation, start: Start, members: Members, lengths: jax.Array) -> tuple:
    """(what the chain of transforms multiplies each update of these lengths [M] with, [M], 1 without any; what the
    transforms tell of each, [M, T], () where none does)."""
    if not federation.transforms:
        return jnp.ones(()), ()

    def one(number, weight, length):
        product, told = jnp.ones(()), []
        for place, transform in enumerate(federation.transforms):
            who, now = sender(start, Client(number, None, (), weight), place), length * jnp.abs(product)
            told.append(0.0 if transform.tells is None else transform.tells(now, who))
            product = product * transform.factor(now, who)
        return product, jnp.stack(jax.tree.map(jnp.float32, told)) if federation.tells else ()

    return jax.vmap(one)(members.clients, members.weights, lengths)
