"""Accuracy, and training without a federation, for comparison."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from cachefl_jax.federation.local import LocalTraining, Params, Rows, train_client
from cachefl_jax.federation.problem import in_view

BATCH = 512


def make_accuracy(logits: Callable) -> Callable[..., float]:
    """(params, frozen, features [n, D], labels [n]) -> share of rows whose largest logit is their label, 0..1.

    Runs in batches, so memory stays at BATCH x N x K whatever n is. Ties go to the lowest class number.
    """

    compiled = jax.jit(functools.partial(count_right, logits))

    def accuracy(params, frozen, features, labels) -> float:
        return int(compiled(params, frozen, features, labels)) / len(labels)

    return accuracy


def count_right(logits: Callable, params, frozen, features: jax.Array, labels: jax.Array) -> jax.Array:
    """[] int32, the rows that are right; traced."""

    def right(row):
        feature, label = row
        return jnp.argmax(logits(params, frozen, feature[None])[0]) == label

    with jax.default_matmul_precision("highest"):
        return jax.lax.map(right, (features, labels), batch_size=BATCH).sum(dtype=jnp.int32)


def make_alone(local: LocalTraining) -> Callable[..., Params]:
    """(key, round, client, params, clients, data, frozen, hyper) -> params after that round of local training.

    Called for round 0, 1, ... with its own result, it trains a client that never hears from the others, on the very
    batches that it would draw in the federation: only the averaging is missing.
    """

    @jax.jit
    def alone(key, number, client, params, clients, data, frozen, hyper):
        clients = in_view(clients, local.views, number)
        start = clients.offsets[client]
        rows = Rows(start, clients.offsets[client + 1] - start)
        client_key = jax.random.fold_in(jax.random.fold_in(key, number), client)
        return train_client(local, client_key, params, frozen, hyper, data, clients.indices, rows)[0]

    return alone
