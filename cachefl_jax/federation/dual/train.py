"""A block of clients on coefficients, through all their epochs (see `dual`)."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from cachefl_jax.federation.dual.block import (
    Batch,
    Block,
    Coefficients,
    Gradient,
    Lanes,
    Task,
    lanes_at,
    narrowed,
    widened,
)
from cachefl_jax.federation.dual.gram import gradient_square, gram_product, squared_distance, with_server
from cachefl_jax.federation.dual.steps import add_batch, apply_optimizer, when_taken
from cachefl_jax.federation.local import clip_scale, poisoned
from cachefl_jax.federation.optimizers import sgd
from cachefl_jax.federation.orders import order_widths, shuffled_orders
from cachefl_jax.federation.timetable import stages_of


class Trained(NamedTuple):
    """What a block's clients end in."""

    decay: jax.Array  # [M], 1 for clients of other blocks
    scale: jax.Array  # [R]
    rows: jax.Array  # [R, J]
    losses: jax.Array  # [M] mean over a client's examples, before each step
    lengths: jax.Array  # [M] |W_c - W_0|; 0 where nobody asks


def train_block(task: Task, block: Block, first: jax.Array, after: jax.Array) -> Trained:
    """Trains the clients `first` to `after` (not included) of the sorted cohort."""
    optimizer, places = task.local.optimizer(task.start.problem.hyper), task.members.counts.shape

    def one_group(number, carry):
        trained, memory = carry
        place = first + number * task.lanes
        lanes = lanes_at(task, block, place, after)
        ones = jnp.ones(task.lanes, block.scores.dtype)
        if memory:
            memory = (optimizer.init(ones), *memory[1:])
        followed = task.measured and task.local.optimizer is sgd
        now = Coefficients(ones, trained.scale, trained.rows, memory, ones * 0, ones * 0 if followed else ())
        now = train_group(task, block, lanes, now)
        members = jnp.where(lanes.counts > 0, place + jnp.arange(task.lanes), places[0])
        write = lambda array, values: array.at[members].set(values, mode="drop")  # noqa: E731
        lengths = trained.lengths
        if task.measured:
            if followed:
                square = with_server(task, block, lanes, now)
            else:
                square = squared_distance(task, block, lanes, now, lanes.most)
            lengths = write(lengths, jnp.sqrt(jnp.maximum(square, 0)))
        mean = now.loss / jnp.maximum(lanes.counts * task.local.epochs, 1)
        decay, losses = write(trained.decay, now.decay), write(trained.losses, mean)
        return Trained(decay, now.scale, now.rows, losses, lengths), now.memory

    rows = jnp.zeros_like(block.scores)
    memory = () if task.local.optimizer is sgd else (optimizer.init(jnp.ones(task.lanes)), optimizer.init(rows), rows)
    nothing = jnp.zeros(places, rows.dtype)
    trained = Trained(nothing + 1, jnp.ones_like(rows[:, 0]), rows, nothing, nothing)
    if task.rows is not None:
        return one_group(0, (trained, memory))[0]
    groups = -(-(after - first) // task.lanes)
    return jax.lax.fori_loop(0, groups, one_group, (trained, memory))[0]


def train_group(task: Task, block: Block, lanes: Lanes, now: Coefficients) -> Coefficients:
    """All epochs of the lanes' clients."""

    def epoch(number, now):
        return train_epoch(task, block, lanes, number, now)

    first = 0
    if task.rows is not None:  # the first epoch, which begins without coefficients, is a program of its own
        now, first = epoch(0, now), 1
    return jax.lax.fori_loop(first, task.local.epochs, epoch, now) if first < task.local.epochs else now


def train_epoch(task: Task, block: Block, lanes: Lanes, number, now: Coefficients) -> Coefficients:
    """One epoch of the lanes' clients; where their rows are known, those that have finished leave.

    `number` of the epoch; in the first one, where rows are known, it is a Python number."""
    local = task.local
    orders = epoch_orders(task, jax.vmap(jax.random.fold_in, (0, None))(lanes.keys, number), lanes)
    taken = None if local.optimizer is sgd else when_taken(task, block, lanes, orders)

    def step(at, now, lanes=lanes, learnt=None):
        batch = batch_at(task, block, lanes, orders[: len(lanes.counts)], at)
        batch = batch._replace(learnt=learnt_before(task, lanes, number, at) if learnt is None else learnt)
        gradient, loss = batch_gradient(task, block, lanes, now, batch)
        now = now._replace(loss=now.loss + loss)
        if taken is None:
            return add_batch(task, block, lanes, now, (batch, gradient))
        return apply_optimizer(task, block, lanes, now, (batch, gradient), taken == at)

    if task.rows is None:
        return jax.lax.fori_loop(0, -(-lanes.most // local.batch_size), step, now)
    fresh = isinstance(number, int)
    for stage in stages_of(-(-task.rows // local.batch_size)):
        few, own = narrowed(lanes, now, stage.active)
        first, learnt = stage.first, lanes.most
        if fresh and first == 0:
            own, first = step(0, own, few, 0), 1
        if fresh and not local.shuffle:
            learnt = min(learnt, (stage.after - 1) * local.batch_size)
        if first < stage.after:
            one = functools.partial(step, lanes=few, learnt=learnt)
            own = jax.lax.fori_loop(first, stage.after, one, own)
        now = widened(now, own)
    return now


def learnt_before(task: Task, lanes: Lanes, number: jax.Array, at: jax.Array) -> jax.Array:
    """Of each client's rows, how many may have coefficients before step `at` of epoch `number`: none before the first
    step; without a shuffle, only the rows before this one."""
    learnt = jnp.where((number == 0) & (at == 0), 0, lanes.most)
    if task.local.shuffle:
        return learnt
    return jnp.where(number == 0, jnp.minimum(learnt, at * task.local.batch_size), learnt)


def epoch_orders(task: Task, keys: jax.Array, lanes: Lanes) -> jax.Array:
    """The order in which an epoch, with a key [L] for each, takes each lane's rows, [L, capacity]."""
    local = task.local
    if not local.shuffle:
        return jnp.tile(jnp.arange(local.capacity), (len(keys), 1))
    return shuffled_orders(keys, lanes.counts, lanes.most, order_widths(local.capacity, local.batch_size, ratio=2))


def batch_at(task: Task, block: Block, lanes: Lanes, orders: jax.Array, at: jax.Array) -> Batch:
    """The lanes' batches number `at` of an epoch."""
    count, size = len(lanes.counts), task.local.batch_size
    valid = at * size + jnp.arange(size)[None] < lanes.counts[:, None]
    places = jax.lax.dynamic_slice(orders, (0, at * size), (count, size))
    nowhere = len(block.where) + jnp.arange(count * size).reshape(count, size)
    return Batch(valid, places, jnp.where(valid, lanes.starts[:, None] + places, nowhere), lanes.most)


def batch_gradient(
    task: Task, block: Block, lanes: Lanes, now: Coefficients, batch: Batch
) -> tuple[Gradient, jax.Array]:
    """The gradients of the lanes' batches, and their examples' losses added up, [L]."""
    local, problem, valid = task.local, task.start.problem, batch.valid
    base = block.scores.at[batch.rows].get(mode="clip")
    own = gram_product(task, block, lanes, now, batch.rows, batch.learnt)
    scores = now.decay[:, None, None] * base + own
    where = block.where.at[batch.rows.reshape(-1)].get(mode="clip")
    examples = jax.tree.map(lambda leaf: leaf[where], problem.data)
    if local.poison is not None:
        owner = task.members.clients[block.owner.at[batch.rows.reshape(-1)].get(mode="clip")]
        examples = poisoned(local, task.start, owner, examples)

    def mean_loss(scores):
        losses = local.linear.loss(scores.reshape(-1, *task.scores_shape), problem.frozen, examples)
        losses = jnp.where(valid, losses.reshape(valid.shape), 0)
        return (losses.sum(axis=1) / jnp.maximum(valid.sum(axis=1), 1)).sum(), losses.sum(axis=1)

    (_, losses), slopes = jax.value_and_grad(mean_loss, has_aux=True)(scores)
    clip = jnp.ones_like(now.decay)
    if local.clip:
        square = gradient_square(task, block, lanes, now, batch, (slopes, scores - base))
        clip = clip_scale(problem.hyper, jnp.sqrt(jnp.maximum(square, 0)))
    return Gradient(valid[:, 0], slopes, clip, own), losses
