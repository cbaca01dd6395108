"""Training without a federation as plainly as it can be said: one client and one round a call. The engine's oracle."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from cachefl_jax.federation import LocalTraining, Problem, train_client
from cachefl_jax.federation.local import Rows
from cachefl_jax.federation.problem import in_view


def plain_training(local: LocalTraining, problem: Problem) -> Callable:
    """(params, client, rounds) -> the client's params after so many rounds on its own."""
    problem = jax.device_put(problem)

    @jax.jit
    def one_round(params, client, number):
        clients = in_view(problem.clients, local.views, number)
        start = clients.offsets[client]
        rows = Rows(start, clients.offsets[client + 1] - start)
        key = jax.random.fold_in(jax.random.fold_in(problem.key, number), client)
        fixed = (problem.frozen, problem.hyper, problem.data, clients.indices)
        return train_client(local, key, params, *fixed, rows)[0]

    def train(params, client: int, rounds: int):
        for number in range(rounds):
            params = one_round(params, jnp.asarray(client), jnp.asarray(number))
        return params

    return train
