"""Clients of known sizes, side by side, that train on by themselves round after round: no bound depends on data.

Axis letters: M clients.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cachefl_jax.federation.checks import all_finite
from cachefl_jax.federation.local import LocalTraining, client_orders, first_carry, make_step
from cachefl_jax.federation.primal.stages import train_stage
from cachefl_jax.federation.problem import Problem, in_view
from cachefl_jax.federation.timetable import Stage, stages_of
from cachefl_jax.federation.work import Client, Params, Rows, Start, client_key


class Who(NamedTuple):
    """A client in a round."""

    number: jax.Array
    first: jax.Array  # of its rows in `indices`
    count: jax.Array
    params: Params  # that it begins the round with


def train_known(local: LocalTraining, rows: np.ndarray, given: tuple, rounds: tuple, problem: Problem):
    """(params [M, ...] after the rounds, whether they and all losses are finite [M]). Traced.

    Args:
        local: what a client does in a round.
        rows: [M] of each client, the largest first.
        given: (params [M, ...], the clients' numbers [M]).
        rounds: the first one, and the one after the last.
        problem: the federation's arrays."""
    params, numbers = given
    present, most = int((rows > 0).sum()), int(rows[0])
    local = local._replace(capacity=min(-(-most // local.batch_size) * local.batch_size, local.capacity))

    def one_round(at, carry):
        params, finite = carry
        clients, key = in_view(problem.clients, local.views, at), jax.random.fold_in(problem.key, at)
        own = problem._replace(clients=clients)

        def one_step(number, who, orders, carry):
            start = Start(who.params, (), own, at, key)
            return make_step(local, start, Client(who.number, Rows(who.first, who.count, most), ()), orders)(
                number, carry
            )

        def begun(who):
            start, held = Start(who.params, (), own, at, key), Rows(who.first, who.count, most)
            return client_orders(local, client_key(start, who.number), held), first_carry(local, start, who.params)

        chosen = numbers[:present]
        first, after = clients.offsets[chosen], clients.offsets[chosen + 1]
        trained, sound = train_stages(local, rows[:present], one_step, begun, Who(chosen, first, after - first, params))
        return trained, finite & sound

    carry = jax.tree.map(lambda leaf: leaf[:present], params), jnp.ones(present, bool)
    trained, finite = jax.lax.fori_loop(*rounds, one_round, carry) if present else carry
    whole = jax.tree.map(lambda new, old: jnp.concatenate([new, old[present:]]), trained, params)
    return whole, jnp.pad(finite, (0, len(rows) - present), constant_values=True) & jax.vmap(all_finite)(whole)


def train_stages(local: LocalTraining, rows: np.ndarray, one_step: Callable, begun: Callable, who: Who):
    """(params [M, ...] after a round, whether the losses are finite [M]); `begun` gives a client's orders and first
    carry. Those that have finished leave."""
    stages, finished = stages_of(-(-rows // local.batch_size) * local.epochs), []
    orders, now = jax.vmap(begun)(who)
    for stage, following in zip(stages, [*stages[1:], Stage(0, 0, 0, True)], strict=True):
        who, orders = jax.tree.map(lambda leaf, count=stage.active: leaf[:count], (who, orders))
        trained, _, total = now = train_stage(local, stage, one_step, (who, orders), now)
        leaves = jax.tree.map(lambda leaf, stays=following.active: leaf[stays:], (trained, jnp.isfinite(total)))
        finished.insert(0, leaves)
        now = jax.tree.map(lambda leaf, stays=following.active: leaf[:stays], now)
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *finished)
