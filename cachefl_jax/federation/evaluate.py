"""Accuracy, and training without a federation, for comparison."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from cachefl_jax.federation.local import LocalTraining, Params, Rows, train_client

BATCH = 512


def make_accuracy(logits: Callable) -> Callable[..., float]:
    """(params, frozen, features [n, D], labels [n]) -> share of rows whose largest logit is their label, 0..1.

    Runs in batches, so memory stays at BATCH x N x K whatever n is. Ties go to the lowest class number.
    """

    @jax.jit
    def count_right(params, frozen, features, labels):
        def right(row):
            feature, label = row
            return jnp.argmax(logits(params, frozen, feature[None])[0]) == label

        return jax.lax.map(right, (features, labels), batch_size=BATCH).sum()

    def accuracy(params, frozen, features, labels) -> float:
        return int(count_right(params, frozen, features, labels)) / len(labels)

    return accuracy


def make_alone(local: LocalTraining) -> Callable[..., Params]:
    """(key, rounds, client, params, clients, data, frozen, hyper) -> params after as many rounds of local training as
    a federated client gets, without ever hearing from the others.

    A client draws the same batches here as in the federation: only the averaging is missing.
    """

    @jax.jit
    def alone(key, rounds, client, params, clients, data, frozen, hyper):
        start = clients.offsets[client]
        rows = Rows(start, clients.offsets[client + 1] - start)

        def one_round(number, params):
            round_key = jax.random.fold_in(jax.random.fold_in(key, number), client)
            return train_client(local, round_key, params, frozen, hyper, data, clients.indices, rows)[0]

        return jax.lax.fori_loop(0, rounds, one_round, params)

    return alone
