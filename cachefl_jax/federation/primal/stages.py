"""Clients of known sizes side by side: steps have no bound that depends on data, and who has finished leaves.

The first step of a part starts from the server's params, which all its clients share: nothing is copied for them. The
last step of a stage stands outside of its loop: what a client keeps between steps is then not written for those who
leave after it.

Axis letters: L clients of a part, A those of them that still train.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from cachefl_jax.federation.folded import Folded, Members, add_many, nothing_yet
from cachefl_jax.federation.local import LocalTraining, client_orders, first_carry, make_step, mean_loss, step_count
from cachefl_jax.federation.parts import Federation
from cachefl_jax.federation.primal.client import Sent, send, update_shape
from cachefl_jax.federation.timetable import Part, Stage, stages_of
from cachefl_jax.federation.work import Client, Rows, Start, client_key


def fold_parts(federation: Federation, parts: list[Part], start: Start, members: Members) -> Folded:
    """The members of all parts, as `fold.fold_chunks` gives them. Traced."""
    update = update_shape(federation, start.params, start.problem)
    folded = nothing_yet(federation, start.params, update, members)
    for part in parts:
        local, most = federation.local, int(part.rows[0])
        capacity = min(-(-most // local.batch_size) * local.batch_size, local.capacity)
        of_size = federation._replace(local=local._replace(capacity=capacity))
        folded = fold_part(of_size, part, start, members, folded)
    return folded


def fold_part(federation: Federation, part: Part, start: Start, members: Members, folded: Folded) -> Folded:
    """With the members of one part, who leave in the order in which they finish."""
    local, own = federation.local, slice(part.first, part.first + len(part.rows))
    numbers, counts, weights = members.clients[own], members.counts[own], members.weights[own]
    begins, states = start.problem.clients.offsets[numbers], jax.tree.map(lambda leaf: leaf[own], folded.states)
    who, most = (numbers, begins, counts, weights, states), int(part.rows[0])

    def client(who) -> Client:
        number, begin, count, weight, state = who
        return Client(number, Rows(begin, count, most), state, weight)

    def order(who) -> jax.Array:
        return client_orders(local, client_key(start, client(who).number), client(who).rows)

    def one_step(number, who, order, carry):
        trains = client(who)
        return make_step(local, start, trains._replace(state=trains.state[0]), order)(number, carry)

    def one_end(who, carry) -> Sent:
        sender, (trained, _, total) = client(who), carry
        done = (start.params, trained, mean_loss(local, sender, total), sender.state[0])
        return send(federation, start, sender, done)

    orders, carry = jax.vmap(order)(who), first_carry(local, start, start.params)
    stages = stages_of(-(-part.rows // local.batch_size) * local.epochs, part.exact)
    for stage, following in zip(stages, [*stages[1:], Stage(0, 0, 0, True)], strict=True):
        cut = functools.partial(jax.tree.map, lambda leaf, count=stage.active: leaf[:count])
        who, orders = cut(who), cut(orders)
        carry = train_stage(local, stage, one_step, (who, orders), carry, None if stage.first == 0 else 0)
        leaving = functools.partial(jax.tree.map, lambda leaf, stays=following.active: leaf[stays:])
        sent = jax.vmap(one_end)(leaving(who), leaving(carry))
        folded = add_many(federation, folded, members, part.first + following.active, sent, fused=True)
        carry = jax.tree.map(lambda leaf, stays=following.active: leaf[:stays], carry)
    return folded


def train_stage(local: LocalTraining, stage: Stage, one_step: Callable, clients: tuple, carry, axis: int | None = 0):
    """The carries [A, ...] after a stage; with `axis` None the carry before it is one that all share. Traced."""
    who, orders = clients

    def step(number, carry, axis=0, exact=stage.exact):
        after = jax.vmap(one_step, (None, 0, 0, axis), 0)(number, who, orders, carry)
        if exact:
            return after
        running = jnp.asarray(number) < step_count(local, who[2])
        choose = lambda new, old: jnp.where(running.reshape(-1, *(1,) * (new.ndim - 1)), new, old)  # noqa: E731
        return jax.tree.map(choose, after, carry)

    first, after = stage.first, stage.after
    if first == 0:  # the first step is everybody's who has rows
        carry, first = step(0, carry, axis, exact=stage.present), 1
    if first < after - 1:
        carry, first = jax.lax.fori_loop(first, after - 1, step, carry), after - 1
    return step(first, carry) if first < after else carry
