"""A step on coefficients: what SGD does to kept, scale and U of W_c = kept_c W_0 + (scale U_c)^T F_c (see `dual`).

Plain SGD needs no pass over U in a step: weight decay and the proximal term shrink `scale`, a number a row, and a batch
writes its own rows. With momentum the client's optax transformation itself runs on U and kept: it is linear and
elementwise, so it does to coefficients what it does to parameters.
"""

import jax
import jax.numpy as jnp

from cachefl_jax.federation.lanes import Block, Lanes, State, Step, lane_of_row
from cachefl_jax.federation.local import LocalTraining
from cachefl_jax.federation.optimizers import momentum, nesterov, sgd

LINEAR_OPTIMIZERS = (sgd, momentum, nesterov)
ROWS = 64  # of U that a transformation with momentum runs on at a time


def add_batch(local: LocalTraining, block: Block, lanes: Lanes, hyper, state: State, batch: Step) -> State:
    """A step of plain SGD: W <- shrink W + rate pull W_0 - rate clip gradient^T F, where the first part is scalars'."""
    pull = batch.clip * hyper.proximal if local.proximal else jnp.zeros_like(state.kept)
    shrink = 1 - hyper.learning_rate * (pull + hyper.weight_decay)
    kept = jnp.where(batch.running, shrink * state.kept + hyper.learning_rate * pull, state.kept)
    lane, inside = lane_of_row(block, lanes)
    scale = jnp.where(inside & batch.running[lane], shrink[lane] * state.scale, state.scale)
    rows = -(hyper.learning_rate * batch.clip)[:, None, None] * batch.gradient
    if local.epochs > 1:  # in the first epoch U is zero where it is written
        old = scale.at[batch.rows].get(mode="clip")[..., None] * state.rows.at[batch.rows].get(mode="clip")
        rows = old + rows
    return state._replace(
        kept=kept,
        scale=scale.at[batch.rows].set(1, mode="drop", unique_indices=True),
        rows=state.rows.at[batch.rows].set(rows, mode="drop", unique_indices=True),
    )


def when_taken(local: LocalTraining, orders, lanes: Lanes, block: Block) -> jax.Array:
    """[R] the step of this epoch at which a row is in the batch."""
    slots = jnp.arange(orders.shape[1])[None]
    nowhere = len(block.where) + jnp.arange(orders.size).reshape(orders.shape)
    rows = jnp.where(slots < lanes.counts[:, None], lanes.starts[:, None] + orders, nowhere)
    steps = jnp.broadcast_to(slots // local.batch_size, orders.shape)
    return jnp.full(len(block.where), -1).at[rows].set(steps, mode="drop", unique_indices=True)


def apply_optimizer(
    local: LocalTraining, optimizer, block: Block, lanes: Lanes, hyper, state: State, batch: Step, now: jax.Array
) -> State:
    """A step of the client's own optax transformation, on kept and on U; `now` [R]: rows of this step's batches."""
    of_kept, of_rows, latest = state.memory
    pull = batch.clip * hyper.proximal if local.proximal else jnp.zeros_like(state.kept)
    update, after = optimizer.update(pull * (state.kept - 1), of_kept, state.kept)
    kept, of_kept = jax.tree.map(
        lambda new, old: jnp.where(batch.running, new, old), (state.kept + update, after), (state.kept, of_kept)
    )
    gradient = batch.clip[:, None, None] * batch.gradient
    latest = latest.at[batch.rows].set(gradient, mode="drop", unique_indices=True)
    lane, inside = lane_of_row(block, lanes)
    moving, size = inside & batch.running[lane], min(ROWS, len(now))

    def tile(number, carry):
        begin = lanes.starts[0] + number * size
        at = jnp.minimum(begin, len(now) - size)
        cut = lambda array: jax.lax.dynamic_slice_in_dim(array, at, size)  # noqa: E731
        rows, memory = jax.tree.map(cut, carry)
        gradient = jnp.where(cut(now)[:, None], cut(latest), 0) + cut(pull[lane])[:, None] * rows
        update, after = optimizer.update(gradient, memory, rows)
        # The last tile may be shifted back over rows that have had their step.
        fresh = (cut(moving) & (at + jnp.arange(size) >= begin))[:, None]
        write = lambda whole, new, old: jax.lax.dynamic_update_slice_in_dim(  # noqa: E731
            whole, jnp.where(fresh, new, old), at, 0
        )
        return jax.tree.map(write, carry, (rows + update, after), (rows, memory))

    tiles = -(-lanes.counts.sum() // size)
    rows, of_rows = jax.lax.fori_loop(0, tiles, tile, (state.rows, of_rows))
    return state._replace(kept=kept, rows=rows, memory=(of_kept, of_rows, latest))
