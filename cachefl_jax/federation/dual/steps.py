"""A step on coefficients: what SGD does to decay, scale and U of W_c = decay_c W_0 + (scale U_c)^T F_c (see `dual`).

Plain SGD needs no pass over U in a step: weight decay and the proximal term shrink `scale`, a number a row, and a batch
writes its own rows. With momentum the client's optax transformation itself runs on U and decay: it is linear and
elementwise, so it does to coefficients what it does to params.
"""

import jax
import jax.numpy as jnp

from cachefl_jax.federation.dual.block import Batch, Block, Coefficients, Gradient, Lanes, Task, lane_of_row
from cachefl_jax.federation.dual.gram import batch_square

ROWS = 64  # of U that a transformation with momentum runs on at a time
Step = tuple[Batch, Gradient]


def add_batch(task: Task, block: Block, lanes: Lanes, now: Coefficients, step: Step) -> Coefficients:
    """A step of plain SGD: W <- shrink W + rate pull W_0 - rate clip slopes^T F, where the first part is scalars'."""
    (batch, gradient), hyper = step, task.start.problem.hyper
    pull = gradient.clip * hyper.proximal if task.local.proximal else jnp.zeros_like(now.decay)
    shrink = 1 - hyper.learning_rate * (pull + hyper.weight_decay)
    decay = jnp.where(gradient.running, shrink * now.decay + hyper.learning_rate * pull, now.decay)
    lane, inside = lane_of_row(block, lanes)
    scale = jnp.where(inside & gradient.running[lane], shrink[lane] * now.scale, now.scale)
    rows = -(hyper.learning_rate * gradient.clip)[:, None, None] * gradient.slopes
    if not isinstance(now.square, tuple):
        # |shrink V + rows^T F_b|^2 for V = (scale U)^T F, whose product with the batch's features the scores have.
        cross = shrink * (rows * gradient.moved).sum(axis=(1, 2))
        square = shrink**2 * now.square + 2 * cross + batch_square(task, block, batch, rows)
        now = now._replace(square=jnp.where(gradient.running, square, now.square))
    if task.local.epochs > 1:  # in the first epoch U is zero where it is written
        old = scale.at[batch.rows].get(mode="clip")[..., None] * now.rows.at[batch.rows].get(mode="clip")
        rows = old + rows
    return now._replace(
        decay=decay,
        scale=scale.at[batch.rows].set(1, mode="drop", unique_indices=True),
        rows=now.rows.at[batch.rows].set(rows, mode="drop", unique_indices=True),
    )


def when_taken(task: Task, block: Block, lanes: Lanes, orders: jax.Array) -> jax.Array:
    """[R] the step of this epoch at which a row is in the batch."""
    slots = jnp.arange(orders.shape[1])[None]
    nowhere = len(block.where) + jnp.arange(orders.size).reshape(orders.shape)
    rows = jnp.where(slots < lanes.counts[:, None], lanes.starts[:, None] + orders, nowhere)
    steps = jnp.broadcast_to(slots // task.local.batch_size, orders.shape)
    return jnp.full(len(block.where), -1).at[rows].set(steps, mode="drop", unique_indices=True)


def apply_optimizer(
    task: Task, block: Block, lanes: Lanes, now: Coefficients, step: Step, chosen: jax.Array
) -> Coefficients:
    """A step of the client's own optax transformation, on decay and on U; `chosen` [R]: rows of this step's batches."""
    (batch, gradient), hyper = step, task.start.problem.hyper
    optimizer, (of_decay, of_rows, latest) = task.local.optimizer(hyper), now.memory
    pull = gradient.clip * hyper.proximal if task.local.proximal else jnp.zeros_like(now.decay)
    update, after = optimizer.update(pull * (now.decay - 1), of_decay, now.decay)
    decay, of_decay = jax.tree.map(
        lambda new, old: jnp.where(gradient.running, new, old), (now.decay + update, after), (now.decay, of_decay)
    )
    slopes = gradient.clip[:, None, None] * gradient.slopes
    latest = latest.at[batch.rows].set(slopes, mode="drop", unique_indices=True)
    lane, inside = lane_of_row(block, lanes)
    moving = inside & gradient.running[lane]
    size = len(chosen) if task.rows is not None else min(ROWS, len(chosen))

    def tile(number, carry):
        begin = lanes.starts[0] + number * size
        at = jnp.minimum(begin, len(chosen) - size)
        cut = lambda array: jax.lax.dynamic_slice_in_dim(array, at, size)  # noqa: E731
        rows, memory = jax.tree.map(cut, carry)
        gradient = jnp.where(cut(chosen)[:, None], cut(latest), 0) + cut(pull[lane])[:, None] * rows
        update, after = optimizer.update(gradient, memory, rows)
        # The last tile may be shifted back over rows that have had their step.
        fresh = (cut(moving) & (at + jnp.arange(size) >= begin))[:, None]
        write = lambda whole, new, old: jax.lax.dynamic_update_slice_in_dim(  # noqa: E731
            whole, jnp.where(fresh, new, old), at, 0
        )
        return jax.tree.map(write, carry, (rows + update, after), (rows, memory))

    tiles = 1 if task.rows is not None else -(-lanes.counts.sum() // size)
    rows, of_rows = jax.lax.fori_loop(0, tiles, tile, (now.rows, of_rows))
    return now._replace(decay=decay, rows=rows, memory=(of_decay, of_rows, latest))
