"""What one client does in a round: some epochs of mini-batch training on its own rows.

Written for one client of any size; `cachefl_jax.federation.round` maps it over many. All shapes depend on `capacity`,
never on the client's count, which is traced: clients of every size share one compiled program, and a loop's bound
(not a mask) ends the training, so small clients cost little.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

Params = Any


class Hyper(NamedTuple):
    """The clients' optimizer's numbers, traced: a new value compiles nothing anew."""

    learning_rate: jax.Array
    weight_decay: jax.Array
    momentum: jax.Array
    epsilon: jax.Array


def adamw(hyper: Hyper) -> optax.GradientTransformation:
    """AdamW with the usual betas 0.9 and 0.999; momentum is not used.

    With the usual epsilon of 1e-8 the many keys whose gradient is almost zero move a full step in a direction that
    rounding decides. Tip-Adapter-F's 1e-4 holds them still.
    """
    return optax.adamw(hyper.learning_rate, eps=hyper.epsilon, weight_decay=hyper.weight_decay)


def sgd(hyper: Hyper) -> optax.GradientTransformation:
    """SGD as torch has it: weight decay joins the gradient before heavy-ball momentum."""
    decay = optax.add_decayed_weights(hyper.weight_decay)
    return optax.chain(decay, optax.sgd(hyper.learning_rate, momentum=hyper.momentum))


CLIENT_OPTIMIZERS = {"adamw": adamw, "sgd": sgd}


class LocalTraining(NamedTuple):
    """The static half of a client's work.

    Attributes:
        loss: (params, frozen, batch) -> loss of each example [B]; `batch` has the structure of the data.
        optimizer: Hyper -> optax transformation; its state starts anew in every round.
        epochs: passes over the client's rows.
        batch_size: B; the last batch of an epoch may be smaller, and is then averaged over what it has.
        capacity: rows of the largest client, rounded up to whole batches (`plan_batches`). A client with more is not
            noticed and trains on wrong rows.
    """

    loss: Callable[[Params, Any, Any], jax.Array]
    optimizer: Callable[[Hyper], optax.GradientTransformation]
    epochs: int
    batch_size: int
    capacity: int


class Rows(NamedTuple):
    """One client's slice of the index rows that all clients share."""

    start: jax.Array  # [] into `indices`
    count: jax.Array  # [] rows, at most LocalTraining.capacity


def plan_batches(batch_size: int, largest: int) -> tuple[int, int]:
    """(batch_size, capacity) for clients of at most `largest` rows; batch_size 0 asks for full batches."""
    largest = max(largest, 1)
    batch_size = min(batch_size, largest) or largest
    return batch_size, math.ceil(largest / batch_size) * batch_size


def train_client(
    local: LocalTraining, key: jax.Array, params: Params, frozen, hyper: Hyper, data, indices: jax.Array, rows: Rows
) -> tuple[Params, jax.Array]:
    """Trains `params` on one client's rows.

    Args:
        local: the static settings.
        key: the client's own key of this round; its epochs' orders come from it.
        params: where training starts, any pytree.
        frozen: whatever else the loss needs, any pytree.
        hyper: the optimizer's numbers.
        data: a pytree of arrays [n, ...], the rows of all clients, stored once.
        indices: [n] int32, the data rows of client 0, then of client 1, ...
        rows: where this client's stand in `indices`.

    Returns:
        The trained params, and the mean loss over all steps' examples before each step ([], 0 without rows).
    """
    optimizer = local.optimizer(hyper)
    batches = -(-rows.count // local.batch_size)

    def epoch(number, carry):
        order = shuffled(jax.random.fold_in(key, number), rows.count, local.capacity)

        def step(number, carry):
            params, state, total = carry
            first = number * local.batch_size
            valid = first + jnp.arange(local.batch_size) < rows.count
            picked = jax.lax.dynamic_slice(order, (first,), (local.batch_size,))
            batch = gather(data, indices, rows, picked)

            def mean_loss(params):
                losses = jnp.where(valid, local.loss(params, frozen, batch), 0)
                return losses.sum() / valid.sum()

            loss, gradients = jax.value_and_grad(mean_loss)(params)
            updates, state = optimizer.update(gradients, state, params)
            return optax.apply_updates(params, updates), state, total + loss * valid.sum()

        return jax.lax.fori_loop(0, batches, step, carry)

    start = (params, optimizer.init(params), jnp.zeros(()))
    params, _, total = jax.lax.fori_loop(0, local.epochs, epoch, start)
    return params, total / jnp.maximum(rows.count * local.epochs, 1)


def shuffled(key: jax.Array, count: jax.Array, capacity: int) -> jax.Array:
    """A random order of 0..count-1 in the first `count` places of [capacity].

    Sorts uniform draws rather than permuting: draws do not depend on how many follow them, a permutation does, and a
    client must see the same batches whatever the capacity its neighbours force.
    """
    places = jnp.arange(capacity)
    draws = jax.random.uniform(key, (capacity,))
    return jnp.argsort(jnp.where(places < count, draws, 2.0))


def gather(data, indices: jax.Array, rows: Rows, picked: jax.Array):
    """The client's rows at places `picked` [B], a pytree like `data` with [B, ...] leaves.

    Places past the client's end read some other row; the caller masks them.
    """
    where = indices.at[rows.start + picked].get(mode="clip")
    return jax.tree.map(lambda leaf: leaf[where], data)
