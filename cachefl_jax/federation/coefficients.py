"""Local training of a block of clients on coefficients: kept, scale and U of W_c = kept_c W_0 + (scale U_c)^T F_c (see
`dual`).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from cachefl_jax.federation.gram import gradient_square, gram_product
from cachefl_jax.federation.lanes import Block, Lanes, State, Step
from cachefl_jax.federation.local import LocalTraining, clip_scale
from cachefl_jax.federation.optimizers import sgd
from cachefl_jax.federation.orders import order_widths, shuffled_orders
from cachefl_jax.federation.problem import Problem
from cachefl_jax.federation.updates import add_batch, apply_optimizer, when_taken


def make_training(local: LocalTraining, lanes: int, scores_shape: tuple[int, ...], capacity: int) -> Callable:
    """(block, first, after, chosen, counts, ends, problem, round_key) -> (kept [M], scale [R], U [R, J], losses [M]).

    Trains the clients `first` to `after` (not included) of the sorted cohort; a loss is the mean over a client's
    examples, before each step.
    """
    local = local._replace(capacity=-(-capacity // local.batch_size) * local.batch_size)
    plain = local.optimizer is sgd

    def train(block, first, after, chosen, counts, ends, problem, round_key):
        optimizer = local.optimizer(problem.hyper)

        def one_group(number, carry):
            kept, scale, losses, rows, memory = carry
            at = first + number * lanes
            group = seat(block, at, after, lanes, chosen, counts, ends, round_key)
            ones = jnp.ones_like(group.counts, block.scores.dtype)
            if not plain:
                memory = (optimizer.init(ones), *memory[1:])
            state = State(ones, scale, rows, memory, ones * 0)
            state = train_group(local, scores_shape, optimizer, block, group, problem, state)
            mean = state.loss / jnp.maximum(group.counts * local.epochs, 1)
            seats = jnp.where(group.counts > 0, at + jnp.arange(lanes), len(counts))
            write = lambda array, values: array.at[seats].set(values, mode="drop")  # noqa: E731
            return (
                write(kept, state.kept), state.scale, write(losses, mean), state.rows, state.memory,
            )  # fmt: skip

        rows = jnp.zeros_like(block.scores)
        memory = () if plain else (optimizer.init(jnp.ones(lanes)), optimizer.init(rows), rows)
        nothing = jnp.zeros(counts.shape, rows.dtype)
        groups = -(-(after - first) // lanes)
        kept, scale, losses, rows, _ = jax.lax.fori_loop(
            0, groups, one_group, (nothing + 1, jnp.ones_like(rows[:, 0]), nothing, rows, memory)
        )
        return kept, scale, rows, losses

    return train


def seat(block: Block, at, after, lanes: int, chosen, counts, ends, round_key) -> Lanes:
    """The `lanes` clients from place `at` of the sorted cohort on; none past `after`."""
    places = at + jnp.arange(lanes)
    taken, places = places < after, jnp.minimum(places, len(counts) - 1)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(round_key, chosen[places])
    rows = jnp.where(taken, counts[places], 0)
    return Lanes(at, rows, ends[places] - counts[places] - block.begin, keys)


def train_group(
    local: LocalTraining, scores_shape, optimizer, block: Block, lanes: Lanes, problem: Problem, state: State
) -> State:
    """All epochs of the lanes' clients."""
    steps = -(-lanes.counts[0] // local.batch_size)

    def epoch(number, state):
        keys = jax.vmap(jax.random.fold_in, (0, None))(lanes.keys, number)
        orders = epoch_orders(local, keys, lanes.counts)
        taken = None if local.optimizer is sgd else when_taken(local, orders, lanes, block)

        def step(at, state):
            # Nothing has been learnt before the first step; without a shuffle, only from the rows before this one.
            learnt = jnp.where((number == 0) & (at == 0), 0, lanes.counts[0])
            if not local.shuffle:
                learnt = jnp.where(number == 0, jnp.minimum(learnt, at * local.batch_size), learnt)
            batch, loss = look(local, scores_shape, block, lanes, problem, orders, at, state, learnt)
            state = state._replace(loss=state.loss + loss)
            if taken is None:
                return add_batch(local, block, lanes, problem.hyper, state, batch)
            return apply_optimizer(local, optimizer, block, lanes, problem.hyper, state, batch, taken == at)

        return jax.lax.fori_loop(0, steps, step, state)

    return jax.lax.fori_loop(0, local.epochs, epoch, state)


def epoch_orders(local: LocalTraining, keys: jax.Array, counts: jax.Array) -> jax.Array:
    """The order in which an epoch takes each lane's rows, [L, capacity]; the first lane has the most."""
    if not local.shuffle:
        return jnp.tile(jnp.arange(local.capacity), (len(keys), 1))
    return shuffled_orders(keys, counts, counts[0], order_widths(local.capacity, local.batch_size, ratio=2))


def look(local, scores_shape, block, lanes, problem, orders, at, state, learnt) -> tuple[Step, jax.Array]:
    """The lanes' batches number `at`: their gradients, and their examples' losses added up, [L]."""
    count, size = len(lanes.counts), local.batch_size
    valid = at * size + jnp.arange(size)[None] < lanes.counts[:, None]
    places = jax.lax.dynamic_slice(orders, (0, at * size), (count, size))
    nowhere = len(block.where) + jnp.arange(count * size).reshape(count, size)
    rows = jnp.where(valid, lanes.starts[:, None] + places, nowhere)
    base = block.scores.at[rows].get(mode="clip")
    own = gram_product(block, lanes, problem, rows, state, learnt)
    scores = state.kept[:, None, None] * base + own
    where = block.where.at[rows.reshape(-1)].get(mode="clip")
    examples = jax.tree.map(lambda leaf: leaf[where], problem.data)

    def mean_loss(scores):
        losses = local.linear.loss(scores.reshape(-1, *scores_shape), problem.frozen, examples)
        losses = jnp.where(valid, losses.reshape(count, size), 0)
        return (losses.sum(axis=1) / jnp.maximum(valid.sum(axis=1), 1)).sum(), losses.sum(axis=1)

    (_, losses), gradient = jax.value_and_grad(mean_loss, has_aux=True)(scores)
    clip = jnp.ones_like(state.kept)
    if local.clip:
        square = gradient_square(local, block, lanes, problem, state, rows, places, gradient, scores - base, learnt)
        clip = clip_scale(problem.hyper, jnp.sqrt(jnp.maximum(square, 0)))
    return Step(valid, rows, valid[:, 0], gradient, clip), losses
