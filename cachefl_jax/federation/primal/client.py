"""A client's round from its rows to what it sends: trained, made an update of, and put through the transforms."""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cachefl_jax.federation.local import (
    LOOP,
    LocalTraining,
    LoopLayout,
    client_steps,
    gather,
    poisoned,
    step_count,
    train_client,
)
from cachefl_jax.federation.parts import Federation
from cachefl_jax.federation.problem import Problem, shapes_of, tree_bytes
from cachefl_jax.federation.transforms import Sender
from cachefl_jax.federation.work import Client, Finished, Params, Rows, Start, client_key, server_key
from cachefl_jax.precision import double_precision

TRANSFORM = np.uint32(2**32 - 2)  # folded into a client's key for its first transform, one less for each next one
ROWS_AT_ONCE = 64  # whose classes are noted


class Sent(NamedTuple):
    """What a client's round leaves."""

    update: Any
    state: Any  # (the client work's, of each transform)
    change: Params  # of the params that travel, before any transform
    loss: jax.Array  # [] mean over its examples
    told: Any = ()  # [T] what the transforms tell of it, where any does


def train_and_send(federation: Federation, start: Start, client: Client, layout: LoopLayout = LOOP) -> Sent:
    """One client's round; `client.state` is as `init_client` has it. Traced."""
    if client.age is not None:
        place = (start.round - client.age) % federation.versions
        start = start._replace(params=jax.tree.map(lambda leaf: leaf[place], start.versions))
    if federation.local.work.statistics is not None:
        return send(federation, start, client, None)
    done = train(federation.local, start, client._replace(state=client.state[0]), layout)
    return send(federation, start, client, done)


def send(federation: Federation, start: Start, client: Client, done: tuple | None) -> Sent:
    """What a client sends after `train` has done its work; None: it counts instead."""
    (own, chain), local = client.state, federation.local
    if done is None:
        change, loss, extra = jax.tree.map(jnp.zeros_like, start.params), jnp.zeros((), jnp.float32), None
        update = counted(local, start, client.rows, client.number)
    else:
        begun, trained, loss, own = done
        change = local.work.travelling(jax.tree.map(jnp.subtract, trained, begun))
        steps = client_steps(local, client)
        update, extra, own = as_update(federation, change, Finished(steps, start.problem.hyper, start.shared, own))
    update, chain, told = transformed(federation, start, client._replace(state=chain), update)
    return Sent(update if extra is None else (update, extra), (own, chain), change, loss, told)


def counted(local: LocalTraining, start: Start, rows: Rows, client: jax.Array | int = 0) -> Any:
    """What client number `client`, which counts, sends: its rows' statistics, added up batch by batch in float64, as
    they travel."""

    def of_batch(number):
        places = number * local.batch_size + jnp.arange(local.batch_size, dtype=jnp.int32)
        batch = gather(start.problem.data, start.problem.clients.indices, rows, places)
        return local.work.statistics(start, poisoned(local, start, client, batch), places < rows.count)

    with double_precision():
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(of_batch, jnp.int32(0)))
        add = lambda number, sums: jax.tree.map(jnp.add, sums, of_batch(number))  # noqa: E731
        sums = jax.lax.fori_loop(jnp.int32(0), step_count(local, rows.count), add, zeros)
        return local.work.packed(sums)


def train(
    local: LocalTraining, start: Start, client: Client, layout: LoopLayout = LOOP
) -> tuple[Params, Params, jax.Array, Any]:
    """(params before and after a client's training, its mean loss, what it then keeps); its `state` is the client
    work's. Traced."""
    work, state = local.work, client.state
    begun = start if work.begin is None else start._replace(params=work.begin(start.params, state))
    trained, loss = train_client(local, begun, client, layout)
    own = state if work.keep is None else work.keep(local, start, client, trained, layout)
    return begun.params, trained, loss, own


def as_update(federation: Federation, change: Params, done: Finished) -> tuple[Any, Any, Any]:
    """(what the algorithm makes of a change, what goes with it past the transforms, what the client keeps)."""
    work = federation.local.work
    if work.scale is not None:
        factor, extra = work.scale(federation.local, done.steps, done.hyper)
        return jax.tree.map(lambda leaf: factor * leaf, change), extra, done.state
    update, state = (change, done.state) if work.update is None else work.update(change, done)
    return update, None, state


def transformed(federation: Federation, start: Start, client: Client, update) -> tuple[Any, tuple, Any]:
    """(the update after all transforms, what the client keeps for each, what they tell [T] or ())."""
    states, told = [], []
    for number, transform in enumerate(federation.transforms):
        who = sender(start, client, number)
        told.append(0.0 if transform.tells is None else transform.tells(optax.tree.norm(update), who))
        update, state = transform.apply(update, client.state[number], who)
        states.append(state)
    return update, tuple(states), jnp.stack(jax.tree.map(jnp.float32, told)) if federation.tells else ()


def sender(start: Start, client: Client, number: int) -> Sender:
    """The client as transform `number` sees it."""
    key = jax.random.fold_in(client_key(start, client.number), TRANSFORM - np.uint32(number))
    hyper = numbers_of(start.problem, number)
    hostile = False if start.hostile is None else start.hostile[client.number]
    held = functools.partial(classes_held, start.problem, client.rows)
    own = Sender(client.number, start.round, key, client.weight, hyper, start.server, server_key(start.key), hostile)
    return own._replace(held=held)


def classes_held(problem: Problem, rows: Rows, classes: int) -> jax.Array:
    """[classes] bool, which of them a client's rows are of; of data with `labels`. Traced."""
    places = jnp.arange(ROWS_AT_ONCE, dtype=jnp.int32)

    def add(number: jax.Array, held: jax.Array) -> jax.Array:
        own = number * ROWS_AT_ONCE + places
        found = labels[indices[jnp.minimum(rows.start + own, len(indices) - 1)]]
        return held.at[jnp.where(own < rows.count, found, classes)].set(True, mode="drop")

    labels, indices = jnp.asarray(problem.data.labels), jnp.asarray(problem.clients.indices)
    return jax.lax.fori_loop(0, -(-rows.count // ROWS_AT_ONCE), add, jnp.zeros(classes, bool))


def numbers_of(problem: Problem, number: int):
    """The traced numbers of transform `number`; () where the problem brings none."""
    numbers = problem.part_hyper.transforms
    return numbers[number] if number < len(numbers) else ()


def init_client(federation: Federation, params: Params, problem: Problem) -> tuple[Any, tuple]:
    """What a client keeps at round 0: (for its algorithm, for each transform). Traced."""
    work, states = federation.local.work, []
    own = work.state(params)
    update, _ = jax.eval_shape(lambda *of: first_update(federation, *of), params, problem, own)
    with work.arithmetic():
        for number, transform in enumerate(federation.transforms):
            states.append(transform.state(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), update)))
            update = jax.eval_shape(
                lambda n=number: transformed_one(federation, params, problem, n, (update, states[n]))  # noqa: B023
            )
    return own, tuple(states)


def first_update(federation: Federation, params: Params, problem: Problem, own) -> tuple[Any, Any]:
    """(an update before the transforms, what goes with it or None), for their shapes."""
    zero, shared = jnp.zeros((), jnp.int32), federation.local.work.shared(params)
    if federation.local.work.statistics is not None:
        start = Start(params, shared, problem, zero, problem.key)
        return counted(federation.local, start, Rows(zero, zero)), None
    sent = federation.local.work.travelling(params)
    return as_update(federation, sent, Finished(zero, problem.hyper, shared, own))[:2]


def transformed_one(federation: Federation, params: Params, problem: Problem, number: int, given: tuple):
    """An update after transform `number`, for its shape; given (the update before it, the client's state for it)."""
    update, state = given
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), update)
    place, share = jnp.zeros((), jnp.int32), jnp.zeros(())
    held = functools.partial(classes_held, problem, Rows(place, place))
    who = Sender(place, place, problem.key, share, numbers_of(problem, number), held=held)
    who = who._replace(server=first_mechanism(federation, params, problem), server_key=problem.key)
    return federation.transforms[number].apply(zeros, state, who)[0]


def first_mechanism(federation: Federation, params: Params, problem: Problem) -> Any:
    """What the server's mechanism keeps at round 0. Traced."""
    mechanism = federation.mechanism
    travelling = federation.local.work.travelling
    return () if mechanism is None else mechanism.state(travelling(params), problem.part_hyper.mechanism)


def update_stages(federation: Federation, params: Params, problem: Problem) -> tuple[list, Any]:
    """(shapes of an update as the algorithm makes it, then after each transform; of what goes with it, or None).
    `problem` may be on the host."""

    def stages(params, problem):
        own, states = init_client(federation, params, problem)
        update, extra = first_update(federation, params, problem, own)
        found = [update]
        with federation.local.work.arithmetic():
            for number in range(len(federation.transforms)):
                update = transformed_one(federation, params, problem, number, (update, states[number]))
                found.append(update)
        return found, extra

    return jax.eval_shape(stages, params, problem)


def update_shape(federation: Federation, params: Params, problem: Problem):
    """An update as the server receives it, as a pytree of shapes."""
    stages, extra = update_stages(federation, params, problem)
    return stages[-1] if extra is None else (stages[-1], extra)


def traffic(federation: Federation, params: Params, problem: Problem) -> tuple[int, int]:
    """(up, down): bytes of a client's round, one way each, as the parts say them; the most where they depend on the
    update (`Federation.measures`)."""
    return counted_traffic(federation, *shapes_of((params, problem._replace(gram=None))))


@functools.lru_cache(maxsize=64)  # points of a sweep with the same shapes are traced once
def counted_traffic(federation: Federation, structure, shapes: tuple) -> tuple[int, int]:
    """`traffic` from shapes alone."""
    params, problem = jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(*shape) for shape in shapes])
    stages, extra = update_stages(federation, params, problem)
    with federation.local.work.arithmetic():  # or float64 would count as float32
        bytes_of = [tree_bytes(stage) for stage in stages]
    size = float(bytes_of[0])
    for transform, shapes, before, after in zip(federation.transforms, stages, bytes_of, bytes_of[1:], strict=False):
        if transform.encoded is not None:
            size = float(transform.encoded(shapes))
        elif transform.size is not None:
            size = transform.size(size)
        else:
            size = size * after / max(before, 1)
    work = federation.local.work
    sent, beside = jax.eval_shape(lambda params: (work.travelling(params), work.shared(params)), params)
    down = float(tree_bytes(sent))
    for transform in federation.downloads:
        if transform.encoded is not None:
            down = float(transform.encoded(sent))
        elif transform.size is not None:
            down = transform.size(down)
    aggregation = federation.aggregation
    up, down = aggregation.size(size + tree_bytes(extra)), math.ceil(down) + tree_bytes(beside) + aggregation.size_down
    return math.ceil(up), down
