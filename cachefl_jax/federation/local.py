"""What one client does in a round: some epochs of mini-batch training on its own rows.

Written for one client of any size; `cachefl_jax.federation.primal` maps it over many. All shapes depend on `capacity`,
never on the client's count, which is traced: clients of every size share one compiled program, and a loop's bound
(not a mask) ends the training, so small clients cost little.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from cachefl_jax.federation.examples import STEPS, Privacy, private_gradient
from cachefl_jax.federation.optimizers import Hyper
from cachefl_jax.federation.orders import order_widths, shuffled_orders
from cachefl_jax.federation.work import Client, ClientWork, Params, Rows, Start, client_key, fedavg

NARROW = 128  # rows that are always sorted: fewer would save less than another program costs to compile


class Linear(NamedTuple):
    """A loss that meets its parameters only in their products with the examples' features.

    The params are a pytree of one leaf W [*J, D]; `loss` sees the scores f W^T. Then a gradient is
    (dloss/dscores)^T f, a combination of features, which is what `cachefl_jax.federation.dual` lives on.

    Attributes:
        features: data -> its features [n, D].
        loss: (scores [B, *J], frozen, batch) -> loss of each example [B].
    """

    features: Callable[[Any], jax.Array]
    loss: Callable[[jax.Array, Any, Any], jax.Array]


class Poison(NamedTuple):
    """What hostile clients make of their rows before they train on them.

    Attributes:
        rows: (a batch, `hostile.Hostility`, whether its client is hostile [], or of each row) -> the batch. Traced.
        features: whether it changes more than labels, of which training on coefficients knows nothing.
    """

    rows: Callable
    features: bool = False


class LocalTraining(NamedTuple):
    """The static half of a client's work.

    Attributes:
        loss: (params, frozen, batch) -> loss of each example [B]; `batch` has the structure of the data.
        optimizer: Hyper -> optax transformation; its state starts anew in every round.
        epochs: passes over the client's rows.
        batch_size: B; the last batch of an epoch may be smaller, and is then averaged over what it has.
        capacity: rows of the largest client, rounded up to whole batches (`plan_batches`). A client with more
            would train on wrong rows: `checks.check_clients` refuses it where counts are known.
        linear: the same loss seen through its scores, where it has that form; None leaves only the primal strategies.
        shuffle: a new order in every epoch; without it rows are taken as they lie.
        proximal: FedProx (arXiv 1812.06127): Hyper.proximal / 2 * |params - server's|^2 joins the loss.
        clip: a step's gradient (of the loss and the proximal term) has a norm of at most Hyper.clip_norm.
        views: versions of every row that the data hold (`problem.repeat_views`); round r trains on number r modulo it.
        work: where the clients' algorithm differs from FedAvg's.
        compact: a step is written into a program once, for losses that take long to compile.
        private: a step is private for every example, by the numbers of `problem.PartHyper.examples`.
        poison: what hostile clients make of their rows.
    """

    loss: Callable[[Params, Any, Any], jax.Array]
    optimizer: Callable[[Hyper], optax.GradientTransformation]
    epochs: int
    batch_size: int
    capacity: int
    linear: Linear | None = None
    shuffle: bool = True
    proximal: bool = False
    clip: bool = False
    views: int = 1
    work: ClientWork = fedavg
    compact: bool = False
    private: bool = False
    poison: Poison | None = None


def plan_batches(batch_size: int, largest: int) -> tuple[int, int]:
    """(batch_size, capacity) for clients of at most `largest` rows; batch_size 0 asks for full batches."""
    largest = max(int(largest), 1)
    batch_size = min(batch_size, largest) or largest
    return batch_size, math.ceil(largest / batch_size) * batch_size


class LoopLayout(NamedTuple):
    """How the steps of a client are laid out in the program. The steps themselves are the same.

    Attributes:
        unrolled: all steps of a client that takes exactly so many; 0: a loop.
        peeled: the loop's first and last step stand outside of it, for clients of 2 steps or more. XLA then neither
            writes the optimizer's first zeros nor its last state, two passes over the params each.
    """

    unrolled: int = 0
    peeled: bool = False


LOOP = LoopLayout()


def train_client(
    local: LocalTraining, start: Start, client: Client, layout: LoopLayout = LOOP
) -> tuple[Params, jax.Array]:
    """Trains the client's params, or else the start's, on its rows; the proximal term pulls to the start's.

    Returns:
        The trained params, and the mean loss over all steps' examples before each step ([], 0 without rows).
    """
    rows, steps = client.rows, client_steps(local, client)
    step = make_step(local, start, client, client_orders(local, client_key(start, client.number), rows))
    carry = first_carry(local, start, start.params if client.params is None else client.params)
    if layout.unrolled:
        for number in range(layout.unrolled):
            carry = step(jnp.asarray(number), carry)
    elif layout.peeled:
        carry = jax.lax.fori_loop(1, steps - 1, step, step(jnp.asarray(0), carry))
        carry = step(steps - 1, carry)
    else:
        carry = jax.lax.fori_loop(0, steps, step, carry)
    trained, _, total = carry
    return trained, mean_loss(local, client, total)


def first_carry(local: LocalTraining, start: Start, params: Params) -> tuple[Params, Any, jax.Array]:
    """What goes from step to step, before the first: params, the optimizer's state, losses added up."""
    return params, local.optimizer(start.problem.hyper).init(params), jnp.zeros(())


def mean_loss(local: LocalTraining, client: Client, total: jax.Array) -> jax.Array:
    """Of losses added up over all steps; 0 without rows."""
    count = client.rows.count
    seen = count * local.epochs
    if client.steps is not None:
        epochs, steps = jnp.divmod(client_steps(local, client), jnp.maximum(-(-count // local.batch_size), 1))
        seen = epochs * count + jnp.minimum(steps * local.batch_size, count)
    return total / jnp.maximum(seen, 1)


def make_step(local: LocalTraining, start: Start, client: Client, orders: jax.Array) -> Callable:
    """A client's step: (number, what goes from step to step) -> the latter; `orders` are its `client_orders`."""
    problem, rows = start.problem, client.rows
    optimizer = local.optimizer(problem.hyper)
    batches = step_count(local, rows.count) // local.epochs

    def step(number, carry):
        now, state, total = carry
        epoch, first = number // batches, number % batches * local.batch_size
        valid = first + jnp.arange(local.batch_size) < rows.count
        picked = jax.lax.dynamic_slice(orders, (epoch, first), (1, local.batch_size))[0]
        batch = poisoned(local, start, client.number, gather(problem.data, problem.clients.indices, rows, picked))
        if local.private:
            privacy = step_privacy(start, client, number)
            loss, gradients = private_gradient(local, now, problem.frozen, (batch, valid), privacy)
        else:
            loss, gradients = loss_and_gradient(local, now, problem.frozen, batch, valid)
        gradients = regularised(local, problem.hyper, gradients, now, start.params)
        if local.work.correct is not None:
            gradients = local.work.correct(gradients, start.shared, client.state)
        updates, state = optimizer.update(gradients, state, now)
        return optax.apply_updates(now, updates), state, total + loss * valid.sum()

    return step


def step_privacy(start: Start, client: Client, number: jax.Array) -> Privacy:
    """What a client's step number so many adds, with a key of its own."""
    key = jax.random.fold_in(jax.random.fold_in(client_key(start, client.number), STEPS), number)
    return start.problem.part_hyper.examples._replace(key=key)


def step_count(local: LocalTraining, rows: jax.Array) -> jax.Array:
    """The steps of a client's round."""
    return -(-rows // local.batch_size) * local.epochs


def client_steps(local: LocalTraining, client: Client) -> jax.Array:
    """The steps that a client does: `step_count`, or fewer."""
    steps = step_count(local, client.rows.count)
    return steps if client.steps is None else jnp.minimum(steps, client.steps)


def loss_and_gradient(local: LocalTraining, params: Params, frozen, batch, valid: jax.Array):
    """The mean loss of a batch's valid examples [B], and its gradient."""

    def mean(losses):
        return jnp.where(valid, losses, 0).sum() / valid.sum()

    if local.linear is None:
        return jax.value_and_grad(lambda params: mean(local.loss(params, frozen, batch)))(params)
    # The same by hand, two plain products: what automatic differentiation makes of a product with [N, K, D] keys is
    # slower on a CPU.
    (leaf,), shape = jax.tree.flatten(params)
    features = local.linear.features(batch)
    scores = (features @ leaf.reshape(-1, leaf.shape[-1]).T).reshape(-1, *leaf.shape[:-1])
    loss, slopes = jax.value_and_grad(lambda scores: mean(local.linear.loss(scores, frozen, batch)))(scores)
    gradient = jax.lax.dot_general(slopes.reshape(len(features), -1), features, (((0,), (0,)), ((), ())))
    return loss, jax.tree.unflatten(shape, [gradient.reshape(leaf.shape)])


def regularised(local: LocalTraining, hyper: Hyper, gradients: Params, now: Params, start: Params) -> Params:
    """The loss's gradient, with the proximal term's, clipped; whichever of them the client uses."""
    if local.proximal:
        gradients = jax.tree.map(lambda g, w, w0: g + hyper.proximal * (w - w0), gradients, now, start)
    if local.clip:
        scale = clip_scale(hyper, optax.tree.norm(gradients))
        gradients = jax.tree.map(lambda g: scale * g, gradients)
    return gradients


def clip_scale(hyper: Hyper, norm: jax.Array) -> jax.Array:
    """What a gradient of this norm is multiplied with."""
    return jnp.minimum(1.0, hyper.clip_norm / jnp.maximum(norm, jnp.finfo(norm.dtype).tiny))


def client_orders(local: LocalTraining, key: jax.Array, rows: Rows) -> jax.Array:
    """The order in which each epoch takes the places 0..count-1, in the first `count` of [epochs, capacity]."""
    if not local.shuffle:
        return jnp.tile(jnp.arange(local.capacity), (local.epochs, 1))
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(local.epochs))
    widths = order_widths(local.capacity, max(NARROW, local.batch_size), ratio=4)
    most = rows.count if rows.most is None else rows.most
    return shuffled_orders(keys, jnp.full(local.epochs, rows.count), most, widths)


def poisoned(local: LocalTraining, start: Start, client: jax.Array | int, batch):
    """The batch as client number `client` [], or that of each row, sees it."""
    if local.poison is None or start.hostile is None:
        return batch
    return local.poison.rows(batch, start.problem.hostile, start.hostile[client])


def gather(data, indices: jax.Array, rows: Rows, picked: jax.Array):
    """The client's rows at places `picked` [B], a pytree like `data` with [B, ...] leaves.

    Places past the client's end read some other row; the caller masks them.
    """
    where = indices.at[rows.start + picked].get(mode="clip")
    return jax.tree.map(lambda leaf: leaf[where], data)
