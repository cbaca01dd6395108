"""Small tasks for the federated algorithms, each as the plain loops take it, in float64, and as the engine does.

A cache that is tuned, also with wide features, so that small clients train on coefficients; and softmax regression,
whose params have two leaves. Clients differ in rows, steps and classes. Both sides' losses are written here.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from jax.flatten_util import ravel_pytree
from torch_federation import Solver, Task
from torch_reference import batches_in_order

from cachefl_jax.federation import (
    CLIENT_OPTIMIZERS,
    SERVER_OPTIMIZERS,
    Clients,
    Cohort,
    Federation,
    Hyper,
    Linear,
    LocalTraining,
    PartHyper,
    Plan,
    Problem,
    RoundMetrics,
    ServerHyper,
    ServerState,
    aggregation,
    algorithms,
    init_server,
    make_round,
    place,
    plan_batches,
    prepare,
    transforms,
)

SIZES = np.array([7, 33, 64, 12, 90])
COHORTS = [[0, 2, 4], [1, 3, 4], [0, 1, 2]]  # whoever comes back comes with another neighbour
OFFSETS = np.concatenate([[0], np.cumsum(SIZES)])
BATCH, EPOCHS = 16, 2  # from 2 to 12 steps a client
CAPACITY = plan_batches(BATCH, int(SIZES.max()))[1]
CLASSES, PER_CLASS = 3, 2
SCALE, ALPHA, BETA = 4.0, 2.0, 1.5  # of the text logits, the cache logits and the affinities


class Rows(NamedTuple):
    """The rows of all clients, as the engine takes them."""

    features: Any  # [n, D]
    labels: Any  # [n]


class Case(NamedTuple):
    """A task on both sides."""

    task: Task
    params: Any  # the engine's at round 0; flattened, they are the task's
    rows: Rows
    frozen: Any
    loss: Callable  # the engine's
    linear: Linear | None = None


def unit_rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Random directions, float32."""
    rows = rng.normal(size=shape)
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def skewed_rows(rng: np.random.Generator, width: int) -> Rows:
    """Random features; most of a client's rows are of one class."""
    owners = np.repeat(np.arange(len(SIZES)), SIZES)
    labels = np.where(rng.random(len(owners)) < 0.6, owners % CLASSES, rng.integers(0, CLASSES, len(owners)))
    return Rows(unit_rows(rng, len(owners), width), labels.astype(np.int32))


def rows_of_steps(number: int, client: int) -> list[np.ndarray]:
    """The documented order, by a key of run, round and client."""
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), number), client)
    return batches_in_order(key, np.arange(OFFSETS[client], OFFSETS[client + 1]), CAPACITY, BATCH, EPOCHS)


def make_task(params: Any, rows: Rows, logits: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Task:
    """The plain loops' task: the mean softmax cross-entropy of logits(params [P], features [n, D])."""
    features, labels = torch.tensor(rows.features).double(), torch.tensor(rows.labels).long()

    def loss(params: torch.Tensor, picked: np.ndarray) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(logits(params, features[picked]), labels[picked])

    return Task(np.asarray(ravel_pytree(params)[0], np.float64), loss, SIZES, functools.cache(rows_of_steps))


def cross_entropy(logits: jax.Array, batch: Rows) -> jax.Array:
    """Of each example, [B]."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)


def cache_case(width: int) -> Case:
    """z = SCALE f . text + ALPHA sum_k exp(-BETA (1 - f . key_k)); params are the keys [N, K, D]."""
    rng = np.random.default_rng(11)
    rows, text, keys = skewed_rows(rng, width), unit_rows(rng, CLASSES, width), unit_rows(rng, 3, PER_CLASS, width)

    def torch_logits(params: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        affinities = torch.exp(-BETA * (1 - torch.einsum("bd,nkd->bnk", features, params.reshape(keys.shape))))
        return SCALE * features @ torch.tensor(text).double().T + ALPHA * affinities.sum(-1)

    def loss_of_scores(scores: jax.Array, text: jax.Array, batch: Rows) -> jax.Array:
        cache_logits = ALPHA * jnp.exp(-BETA * (1 - scores)).sum(-1)
        return cross_entropy(SCALE * batch.features @ text.T + cache_logits, batch)

    def loss(keys: jax.Array, text: jax.Array, batch: Rows) -> jax.Array:
        return loss_of_scores(jnp.einsum("bd,nkd->bnk", batch.features, keys), text, batch)

    linear = Linear(lambda batch: batch.features, loss_of_scores)
    return Case(make_task(keys, rows, torch_logits), keys, rows, text, loss, linear)


def softmax_case(width: int) -> Case:
    """z = SCALE f W^T + b; params are (W [N, D], b [N])."""
    rng = np.random.default_rng(12)
    rows, weight, bias = skewed_rows(rng, width), unit_rows(rng, CLASSES, width), np.zeros(CLASSES, np.float32)

    def torch_logits(params: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        return SCALE * features @ params[: weight.size].reshape(weight.shape).T + params[weight.size :]

    def loss(params: tuple, frozen: tuple, batch: Rows) -> jax.Array:
        return cross_entropy(SCALE * batch.features @ params[0].T + params[1][None], batch)

    return Case(make_task((weight, bias), rows, torch_logits), (weight, bias), rows, (), loss)


CASES = {"cache": cache_case(8), "wide": cache_case(40), "softmax": softmax_case(8)}
PLANS = {
    "scan": Plan("scan"),
    "chunk": Plan("chunk", 2),
    "vmap": Plan("vmap", len(SIZES)),
    "dual": Plan("dual", 2, block_rows=64),
    "devices": Plan("chunk", 2, devices=3),
}


class Parts(NamedTuple):
    """What a federation is made of, by name, and the numbers that it takes."""

    solver: Solver
    algorithm: str = "fedavg"
    aggregation: str = "mean"
    transforms: tuple[str, ...] = ()
    server: str = "sgd"
    server_hyper: ServerHyper = ServerHyper()
    part_hyper: PartHyper = PartHyper()
    drift: bool = False


def make_federation(case: Case, parts: Parts) -> Federation:
    """The engine's federation of these parts."""
    optimizer = CLIENT_OPTIMIZERS["momentum" if parts.solver.momentum else "sgd"]
    local = LocalTraining(
        case.loss,
        optimizer,
        EPOCHS,
        BATCH,
        CAPACITY,
        case.linear,
        proximal=parts.solver.proximal > 0,
        work=getattr(algorithms, parts.algorithm),
    )
    return Federation(
        local,
        SERVER_OPTIMIZERS[parts.server],
        transforms=tuple(getattr(transforms, name) for name in parts.transforms),
        aggregation=getattr(aggregation, parts.aggregation),
        drift=parts.drift,
    )


@functools.cache  # compiling is what these tests spend their time on
def engine(case_name: str, parts: Parts, plan_name: str) -> tuple[Callable, Callable, Problem]:
    """(() -> the state before round 1, the compiled round, the problem)."""
    case, plan, solver = CASES[case_name], PLANS[plan_name], parts.solver
    federation = make_federation(case, parts)
    numbers = (solver.learning_rate, 0.0, solver.momentum, 1e-8, solver.proximal)
    clients = Clients(jnp.asarray(OFFSETS, jnp.int32), jnp.arange(OFFSETS[-1], dtype=jnp.int32))
    floats = functools.partial(jax.tree.map, lambda number: jnp.asarray(number, jnp.float32))
    rows, frozen, params = (jax.tree.map(jnp.asarray, part) for part in (case.rows, case.frozen, case.params))
    hyper, server, part_hyper = floats(Hyper(*numbers)), floats(parts.server_hyper), floats(parts.part_hyper)
    problem = Problem(clients, rows, frozen, hyper, server, jax.random.key(0), part_hyper=part_hyper)
    problem = jax.jit(functools.partial(prepare, federation, plan))(problem)
    return lambda: place(init_server(federation, params, problem), plan), make_round(federation, plan), problem


def engine_rounds(
    case_name: str, plan_name: str, parts: Parts, cohorts: list[list[int]] = COHORTS
) -> tuple[ServerState, list[RoundMetrics]]:
    """The engine's state after a round for each cohort, and each round's metrics. Empty places name client 0."""
    start, one_round, problem = engine(case_name, parts, plan_name)
    state, told = start(), []
    for cohort in cohorts:
        padded = cohort + [0] * (len(SIZES) - len(cohort))
        state, metrics = one_round(state, Cohort(jnp.asarray(padded, jnp.int32), jnp.int32(len(cohort))), problem)
        told.append(metrics)
    return state, told


def flat(params: Any) -> np.ndarray:
    """[P], as the plain loops have them."""
    return np.asarray(ravel_pytree(params)[0])
