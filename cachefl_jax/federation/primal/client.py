"""A client's round from its rows to what it sends: trained, made an update of, and put through the transforms."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cachefl_jax.federation.local import LOOP, LoopLayout, step_count, train_client
from cachefl_jax.federation.parts import Federation
from cachefl_jax.federation.problem import Problem
from cachefl_jax.federation.transforms import Sender
from cachefl_jax.federation.work import Client, Finished, Params, Start, client_key

TRANSFORM = np.uint32(2**32 - 2)  # folded into a client's key for its first transform, one less for each next one


class Sent(NamedTuple):
    """What a client's round leaves."""

    update: Any
    state: Any  # (the client work's, of each transform)
    change: Params  # of the params, before any transform
    loss: jax.Array  # [] mean over its examples


def train_and_send(federation: Federation, start: Start, client: Client, layout: LoopLayout = LOOP) -> Sent:
    """One client's round; `client.state` is as `init_client` has it. Traced."""
    kept, chain = client.state
    trained, loss = train_client(federation.local, start, client._replace(state=kept), layout)
    change = jax.tree.map(jnp.subtract, trained, start.params)
    steps = step_count(federation.local, client.rows.count)
    update, extra, kept = as_update(federation, change, Finished(steps, start.problem.hyper, start.shared, kept))
    update, chain = transformed(federation, start, client._replace(state=chain), update)
    return Sent(update if extra is None else (update, extra), (kept, chain), change, loss)


def as_update(federation: Federation, change: Params, done: Finished) -> tuple[Any, Any, Any]:
    """(what the algorithm makes of a change, what goes with it past the transforms, what the client keeps)."""
    work = federation.local.work
    if work.scale is not None:
        factor, extra = work.scale(federation.local, done.steps, done.hyper)
        return jax.tree.map(lambda leaf: factor * leaf, change), extra, done.state
    update, state = (change, done.state) if work.update is None else work.update(change, done)
    return update, None, state


def transformed(federation: Federation, start: Start, client: Client, update) -> tuple[Any, tuple]:
    """(the update after all transforms, what the client keeps for each)."""
    kept = []
    for number, transform in enumerate(federation.transforms):
        update, state = transform.apply(update, client.state[number], sender(start, client, number))
        kept.append(state)
    return update, tuple(kept)


def sender(start: Start, client: Client, number: int) -> Sender:
    """The client as transform `number` sees it."""
    key = jax.random.fold_in(client_key(start, client.number), TRANSFORM - np.uint32(number))
    return Sender(client.number, start.round, key, client.weight, start.problem.part_hyper.transforms[number])


def init_client(federation: Federation, params: Params, problem: Problem) -> tuple[Any, tuple]:
    """What a client keeps at round 0: (for its algorithm, for each transform). Traced."""
    work, states = federation.local.work, []
    kept = work.state(params)
    update = jax.eval_shape(lambda: first_update(federation, params, problem, kept)[0])
    for number, transform in enumerate(federation.transforms):
        states.append(transform.state(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), update)))
        update = jax.eval_shape(lambda n=number: transformed_one(federation, problem, n, update, states[n]))  # noqa: B023
    return kept, tuple(states)


def first_update(federation: Federation, params: Params, problem: Problem, kept) -> tuple[Any, Any]:
    """(an update before the transforms, what goes with it or None), for their shapes."""
    done = Finished(jnp.zeros((), jnp.int32), problem.hyper, federation.local.work.shared(params), kept)
    return as_update(federation, params, done)[:2]


def transformed_one(federation: Federation, problem: Problem, number: int, update, state):
    """An update after transform `number`, for its shape."""
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), update)
    place, share = jnp.zeros((), jnp.int32), jnp.zeros(())
    who = Sender(place, place, problem.key, share, problem.part_hyper.transforms[number])
    return federation.transforms[number].apply(zeros, state, who)[0]


def update_stages(federation: Federation, params: Params, problem: Problem) -> tuple[list, Any]:
    """(shapes of an update as the algorithm makes it, then after each transform; of what goes with it, or None).
    `problem` may be on the host."""

    def stages():
        kept, states = init_client(federation, params, problem)
        update, extra = first_update(federation, params, problem, kept)
        found = [update]
        for number in range(len(federation.transforms)):
            update = transformed_one(federation, problem, number, update, states[number])
            found.append(update)
        return found, extra

    return jax.eval_shape(stages)


def update_shape(federation: Federation, params: Params, problem: Problem):
    """An update as the server receives it, as a pytree of shapes."""
    stages, extra = update_stages(federation, params, problem)
    return stages[-1] if extra is None else (stages[-1], extra)


def traffic(federation: Federation, params: Params, problem: Problem) -> tuple[int, int]:
    """(up, down): bytes of a client's round, one way each, as the parts say them."""
    stages, extra = update_stages(federation, params, problem)
    stages = [tree_bytes(stage) for stage in stages]
    size = float(stages[0])
    for transform, before, after in zip(federation.transforms, stages[:-1], stages[1:], strict=True):
        size = size * after / max(before, 1) if transform.size is None else transform.size(size)
    shared = jax.eval_shape(federation.local.work.shared, params)
    return math.ceil(federation.aggregation.size(size + tree_bytes(extra))), tree_bytes(params) + tree_bytes(shared)


def tree_bytes(tree) -> int:
    """Bytes of a pytree's leaves, as they are, without framing."""
    return sum(math.prod(jnp.shape(leaf)) * jnp.result_type(leaf).itemsize for leaf in jax.tree.leaves(tree))
