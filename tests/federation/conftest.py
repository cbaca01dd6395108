"""A small federation that the engine's tests share, and a way to run it."""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from cachefl_jax import federation as engine
from cachefl_jax.federation import (
    CLIENT_OPTIMIZERS,
    SERVER_OPTIMIZERS,
    Clients,
    Cohort,
    Hyper,
    Linear,
    LocalTraining,
    Plan,
    Problem,
    RoundMetrics,
    ServerHyper,
    ServerState,
    init_server,
    make_round,
    prepare,
)
from cachefl_jax.methods import Rows
from cachefl_jax.methods.cachefl import Cache, Frozen, cachefl
from cachefl_jax.methods.method import loss_of_scores, training_loss

HYPER = Hyper(*(jnp.asarray(x, jnp.float32) for x in (3e-3, 0.01, 0.9, 1e-4, 0.0, jnp.inf, 0.0)))
SERVER_HYPER = ServerHyper(*(jnp.asarray(x, jnp.float32) for x in (1.0, 0.0, 0.99, 1e-3)))
LOSS = training_loss(cachefl)
LINEAR = Linear(lambda examples: examples.features, loss_of_scores(cachefl))
SCAN = Plan("scan")
ANY = LocalTraining(LOSS, CLIENT_OPTIMIZERS["adamw"], 1, 1, 1)  # a start does not depend on it


# Remembered: compiling is what these tests spend their time on.
@functools.cache
def compiled_round(local: LocalTraining, plan: Plan, server: str) -> Callable:
    return make_round(engine.Federation(local, SERVER_OPTIMIZERS[server]), plan)


@functools.cache
def compiled_preparation(local: LocalTraining, plan: Plan) -> Callable:
    return jax.jit(functools.partial(prepare, engine.Federation(local), plan))


class Federation(NamedTuple):
    """A problem, and where training starts."""

    params: Any
    problem: Problem

    def changed(self, **fields) -> "Federation":
        """With these fields of the problem replaced."""
        return self._replace(problem=self.problem._replace(**fields))

    def cohort(self, clients: list[int]) -> Cohort:
        """These clients, padded to as many as there are."""
        padded = clients + [0] * (self.problem.clients.count - len(clients))
        return Cohort(jnp.asarray(padded, jnp.int32), jnp.asarray(len(clients), jnp.int32))

    def start(self, server: str = "sgd") -> ServerState:
        """The server before its first round."""
        return init_server(engine.Federation(ANY, SERVER_OPTIMIZERS[server]), self.params, self.problem)

    def prepared(self, local: LocalTraining, plan: Plan) -> Problem:
        """The problem as a round by this plan takes it."""
        return compiled_preparation(local, plan)(self.problem)

    def round(self, local: LocalTraining, plan: Plan, server: str = "sgd") -> Callable:
        """The compiled round, shared by all tests that ask for the same."""
        return compiled_round(local, plan, server)

    def train(
        self, local: LocalTraining, cohorts: Iterable[list[int]], plan: Plan = SCAN
    ) -> tuple[ServerState, RoundMetrics]:
        """The state and the last metrics after a round for each cohort, by FedAvg."""
        one_round, problem = self.round(local, plan), self.prepared(local, plan)
        state, metrics = self.start(), None
        for cohort in cohorts:
            state, metrics = one_round(state, self.cohort(cohort), problem)
        return state, metrics


def unit(seed: int, *shape: int) -> jax.Array:
    """Random directions, float32; more rows change none before them."""
    rows = np.random.default_rng(seed).normal(size=shape)
    return jnp.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), jnp.float32)


@pytest.fixture(scope="session")
def make_federation() -> Callable[..., Federation]:
    """(sizes, width=8, classes=5, scattered=False) -> a cache to be tuned by clients of these sizes; K = 3.

    A client more at the end changes nothing for those before it. Scattered: a client's rows lie all over the data.
    """

    def make(sizes: list[int], width: int = 8, classes: int = 5, scattered: bool = False) -> Federation:
        rows = sum(sizes)
        labels = jnp.asarray(np.random.default_rng(2).integers(0, classes, rows), jnp.int32)
        offsets = jnp.asarray(np.concatenate([[0], np.cumsum(sizes)]), jnp.int32)
        order = np.random.default_rng(5).permutation(rows) if scattered else np.arange(rows)
        frozen = Frozen(unit(4, classes, width), *(jnp.asarray(x, jnp.float32) for x in (10.0, 3.0, 2.0)))
        clients = Clients(offsets, jnp.asarray(order, jnp.int32))
        data = Rows(labels, unit(1, rows, width))
        problem = Problem(clients, data, frozen, HYPER, SERVER_HYPER, jax.random.key(7))
        return Federation(Cache(unit(3, classes, 3, width)), problem)

    return make


@pytest.fixture(scope="session")
def make_local() -> Callable[..., LocalTraining]:
    """(batch_size, capacity, optimizer="adamw", epochs=2, loss=CacheFL's, linear=CacheFL's, more of LocalTraining)."""

    def make(
        batch_size: int, capacity: int, optimizer: str = "adamw", epochs: int = 2, loss=LOSS, linear=LINEAR, **more
    ) -> LocalTraining:
        return LocalTraining(loss, CLIENT_OPTIMIZERS[optimizer], epochs, batch_size, capacity, linear, **more)

    return make


@pytest.fixture(scope="session")
def sizes_of_arrays() -> Callable[..., list[int]]:
    """(function, *arguments) -> numbers in each array that the traced function meets, insides of loops included."""

    def walk(jaxpr) -> list[int]:
        own = [variable.aval.size for eqn in jaxpr.eqns for variable in (*eqn.invars, *eqn.outvars)]
        return own + [size for eqn in jaxpr.eqns for inner in jaxprs_in_params(eqn.params) for size in walk(inner)]

    return lambda function, *arguments: walk(jax.make_jaxpr(function)(*arguments).jaxpr)
