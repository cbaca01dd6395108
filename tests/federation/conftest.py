"""A small federation that the engine's tests share, and a way to run it."""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cachefl_jax.federation import (
    CLIENT_OPTIMIZERS,
    SERVER_OPTIMIZERS,
    Clients,
    Cohort,
    Hyper,
    LocalTraining,
    RoundMetrics,
    ServerState,
    init_server,
    make_round,
)
from cachefl_jax.methods import Cache, Examples, Frozen, cachefl, cross_entropy

HYPER = Hyper(*(jnp.asarray(x, jnp.float32) for x in (3e-3, 0.01, 0.9, 1e-4)))
LOSS = cross_entropy(cachefl)
SERVER = SERVER_OPTIMIZERS["sgd"](1.0)


@functools.cache
def compiled_round(local: LocalTraining, chunk: int, devices: int):
    """`make_round`, remembered: compiling is what these tests spend their time on."""
    return make_round(local, SERVER, chunk, devices)


class Problem(NamedTuple):
    """What a round takes besides the server's state, and where training starts."""

    params: Any
    clients: Clients
    data: Any
    frozen: Any
    hyper: Hyper
    key: jax.Array

    @property
    def fixed(self) -> tuple:
        """A round's arguments after the cohort."""
        return self.clients, self.data, self.frozen, self.hyper, self.key

    def cohort(self, clients: list[int]) -> Cohort:
        """These clients, padded to as many as there are."""
        padded = clients + [0] * (len(self.clients.offsets) - 1 - len(clients))
        return Cohort(jnp.asarray(padded, jnp.int32), jnp.asarray(len(clients), jnp.int32))

    def start(self) -> ServerState:
        """The server before its first round."""
        return init_server(self.params, SERVER)

    def round(self, local: LocalTraining, chunk: int, devices: int = 1) -> Callable:
        """The compiled round, by FedAvg, shared by all tests that ask for the same."""
        return compiled_round(local, chunk, devices)

    def train(
        self, local: LocalTraining, cohorts: Iterable[list[int]], chunk: int = 2, devices: int = 1
    ) -> tuple[ServerState, RoundMetrics]:
        """The state and the last metrics after a round for each cohort, by FedAvg."""
        one_round = self.round(local, chunk, devices)
        state, metrics = self.start(), None
        for cohort in cohorts:
            state, metrics = one_round(state, self.cohort(cohort), *self.fixed)
        return state, metrics


def unit(seed: int, *shape: int) -> jax.Array:
    """Random directions, float32; more rows change none before them."""
    rows = np.random.default_rng(seed).normal(size=shape)
    return jnp.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), jnp.float32)


@pytest.fixture
def make_problem() -> Callable[[list[int]], Problem]:
    """(sizes) -> a cache to be tuned by clients of these sizes; N = 5, K = 3, D = 8.

    A client more at the end changes nothing for those before it.
    """

    def make(sizes: list[int]) -> Problem:
        rows = sum(sizes)
        labels = jnp.asarray(np.random.default_rng(2).integers(0, 5, rows), jnp.int32)
        offsets = jnp.asarray(np.concatenate([[0], np.cumsum(sizes)]), jnp.int32)
        frozen = Frozen(unit(4, 5, 8), *(jnp.asarray(x, jnp.float32) for x in (10.0, 3.0, 2.0)))
        clients = Clients(offsets, jnp.arange(rows, dtype=jnp.int32))
        data = Examples(unit(1, rows, 8), labels)
        return Problem(Cache(unit(3, 5, 3, 8)), clients, data, frozen, HYPER, jax.random.key(7))

    return make


@pytest.fixture
def make_local() -> Callable[..., LocalTraining]:
    """(batch_size, capacity, optimizer="adamw", epochs=2, loss=CacheFL's) -> a client's training."""

    def make(batch_size: int, capacity: int, optimizer: str = "adamw", epochs: int = 2, loss=LOSS) -> LocalTraining:
        return LocalTraining(loss, CLIENT_OPTIMIZERS[optimizer], epochs, batch_size, capacity)

    return make
