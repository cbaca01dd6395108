"""Training without a federation as plainly as it can be said: one client and one round a call. The engine's oracle."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from cachefl_jax.federation import Client, LocalTraining, Problem, Rows, Start, train_client
from cachefl_jax.federation.problem import in_view


def plain_training(local: LocalTraining, problem: Problem) -> Callable:
    """(params, client, rounds) -> the client's params after so many rounds on its own."""
    problem = jax.device_put(problem)

    @jax.jit
    def one_round(params, client, number):
        clients = in_view(problem.clients, local.views, number)
        begin = clients.offsets[client]
        rows = Rows(begin, clients.offsets[client + 1] - begin)
        start = Start(params, (), problem._replace(clients=clients), number, jax.random.fold_in(problem.key, number))
        return train_client(local, start, Client(client, rows, ()))[0]

    def train(params, client: int, rounds: int):
        for number in range(rounds):
            params = one_round(params, jnp.asarray(client), jnp.asarray(number))
        return params

    return train
