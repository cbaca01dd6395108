"""A federation equals a plain PyTorch loop: the same bank, partition and batches, and nothing else in common.

The reference is written from the method's formulas, in Tip-Adapter's form (keys [NK, D] and a one-hot value matrix
[NK, N]), with autograd, torch.optim, and Python loops over rounds, clients and steps. It computes in float64, so a
difference is the float32 rounding of the code under test. Keys must agree to 1e-5.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from ml_collections import ConfigDict

from cachefl_jax.data import FeatureBank, Partition, class_grid, load_bank, partition
from cachefl_jax.federation import (
    CLIENT_OPTIMIZERS,
    SERVER_OPTIMIZERS,
    Clients,
    Cohort,
    Hyper,
    LocalTraining,
    init_server,
    make_round,
    plan_batches,
)
from cachefl_jax.federation.local import shuffled
from cachefl_jax.methods import Examples, Frozen, cachefl, cross_entropy

TOLERANCE = 1e-5
EPSILON = 1e-4
ROUNDS = 3


class Case(NamedTuple):
    """A bank dealt out to clients, and the cache at round 0."""

    bank: FeatureBank
    division: Partition
    keys: np.ndarray  # [N, K, D]
    alpha: float
    beta: float

    def rows(self, client: int) -> np.ndarray:
        return self.division.indices[self.division.offsets[client] : self.division.offsets[client + 1]]


class Settings(NamedTuple):
    """The clients' training."""

    optimizer: str
    learning_rate: float
    weight_decay: float
    momentum: float
    epochs: int
    batch_size: int = 0


ADAMW = Settings("adamw", learning_rate=3e-3, weight_decay=0.1, momentum=0.0, epochs=3)
SGD = Settings("sgd", learning_rate=0.05, weight_decay=0.01, momentum=0.9, epochs=3)
PLAIN_SGD = Settings("sgd", learning_rate=0.2, weight_decay=0.0, momentum=0.0, epochs=3)


def make_case(path, clients: int, keys_per_class: int, alpha: float, beta: float) -> Case:
    """A Dirichlet(0.3) partition of the bank at `path`."""
    bank = load_bank(path)
    division = partition(
        bank.train.labels, ConfigDict({"name": "dirichlet", "clients": clients, "concentration": 0.3}), seed=0
    )
    assert len(set(division.sizes)) > 2, "clients of several sizes, or the weights would not be tested"
    return Case(bank, division, class_grid(bank.synthetic, bank.classes, keys_per_class), alpha, beta)


@pytest.fixture
def small_case(make_bank) -> Case:
    """60 rows of 4 classes at 5 clients; N = 4, K = 3, D = 8. The logit scale is small, so that no loss vanishes."""
    return make_case(make_bank(metadata='{"logit_scale": 10}'), clients=5, keys_per_class=3, alpha=3.0, beta=2.0)


# The reference.


@pytest.fixture(autouse=True)
def one_thread():
    """The matrices are small: torch's threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def torch_loss(case: Case, keys: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
    """Mean cross-entropy of the rows; keys [NK, D]."""
    bank, (classes, per_class, _) = case.bank, case.keys.shape
    features, text = (torch.tensor(x, dtype=torch.float64) for x in (bank.train.features[rows], bank.text_features))
    labels = torch.tensor(bank.train.labels[rows], dtype=torch.int64)
    values = torch.nn.functional.one_hot(torch.arange(classes).repeat_interleave(per_class)).double()
    affinities = torch.exp(-case.beta * (1 - features @ keys.T))
    logits = bank.logit_scale * features @ text.T + case.alpha * affinities @ values
    return torch.nn.functional.cross_entropy(logits, labels)


def torch_client(case: Case, settings: Settings, start: np.ndarray, batches: list[np.ndarray]):
    """(keys after a step on each batch, mean loss over the batches' rows before each step)."""
    keys = torch.tensor(start.reshape(-1, start.shape[-1]), dtype=torch.float64, requires_grad=True)
    common = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    if settings.optimizer == "adamw":
        optimizer = torch.optim.AdamW([keys], eps=EPSILON, **common)
    else:
        optimizer = torch.optim.SGD([keys], momentum=settings.momentum, **common)
    total = 0.0
    for rows in batches:
        optimizer.zero_grad()
        loss = torch_loss(case, keys, rows)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(rows)
    return keys.detach().numpy().reshape(start.shape), total / sum(len(rows) for rows in batches)


def torch_federation(
    case: Case,
    settings: Settings,
    cohorts: list[list[int]],
    server: Callable[[np.ndarray, np.ndarray], np.ndarray],
    batches: Callable[[Case, Settings, int, int], list[np.ndarray]],
) -> tuple[np.ndarray, list[float]]:
    """(keys after the last round, each round's mean training loss)."""
    keys, losses = case.keys.astype(np.float64), []
    for number, cohort in enumerate(cohorts):
        examples = sum(len(case.rows(client)) for client in cohort)
        mean, mean_loss = np.zeros_like(keys), 0.0
        for client in cohort:
            tuned, loss = torch_client(case, settings, keys, batches(case, settings, number, client))
            share = len(case.rows(client)) / examples
            mean += share * tuned
            mean_loss += share * loss
        keys = server(keys, mean - keys)
        losses.append(mean_loss)
    return keys, losses


def full_batches(case: Case, settings: Settings, number: int, client: int) -> list[np.ndarray]:
    """All of a client's rows in every step."""
    del number
    return [case.rows(client)] * settings.epochs


def replayed_batches(case: Case, settings: Settings, number: int, client: int) -> list[np.ndarray]:
    """The documented order: a key by run, round and client; epochs fold their number in; batches are cut in order."""
    rows, size = case.rows(client), settings.batch_size
    capacity = plan_batches(size, int(case.division.sizes.max()))[1]
    client_key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), number), client)
    batches = []
    for epoch in range(settings.epochs):
        order = np.asarray(shuffled(jax.random.fold_in(client_key, epoch), len(rows), capacity))[: len(rows)]
        batches += [rows[order[first : first + size]] for first in range(0, len(rows), size)]
    return batches


def fedavg() -> Callable:
    """The mean of the clients' keys."""
    return lambda keys, change: keys + change


def fedavgm(learning_rate: float, momentum: float) -> Callable:
    """FedAvgM: v <- momentum v + change; keys <- keys + learning_rate v."""
    velocity = 0.0

    def step(keys, change):
        nonlocal velocity
        velocity = momentum * velocity + change
        return keys + learning_rate * velocity

    return step


def fedadam(learning_rate: float, beta1: float) -> Callable:
    """FedAdam with beta2 0.99 and tau 1e-3, started at zero and corrected for it as Adam is.

    Algorithm 2 of arXiv 2003.00295 starts the second moment at tau^2 or more instead and corrects nothing.
    """
    first, second, steps = 0.0, 0.0, 0

    def step(keys, change):
        nonlocal first, second, steps
        steps += 1
        first = beta1 * first + (1 - beta1) * change
        second = 0.99 * second + 0.01 * change**2
        return keys + learning_rate * (first / (1 - beta1**steps)) / (np.sqrt(second / (1 - 0.99**steps)) + 1e-3)

    return step


# The code under test.


@functools.cache
def compiled_round(optimizer: str, epochs: int, batch_size: int, capacity: int, server: tuple[str, float, float]):
    """The round, built once for all tests that share it: learning rates, decay and momentum are traced."""
    name, *numbers = server
    local = LocalTraining(cross_entropy(cachefl), CLIENT_OPTIMIZERS[optimizer], epochs, batch_size, capacity)
    return make_round(local, SERVER_OPTIMIZERS[name](*numbers), client_chunk=2)


def our_federation(
    case: Case, settings: Settings, cohorts: list[list[int]], server: tuple[str, float, float] = ("sgd", 1.0, 0.0)
) -> tuple[np.ndarray, list[float]]:
    """What `torch_federation` gives, by `make_round`; cohorts are padded to all clients."""
    bank, division = case.bank, case.division
    sizes = plan_batches(settings.batch_size, int(division.sizes.max()))
    one_round = compiled_round(settings.optimizer, settings.epochs, *sizes, server)
    hyper = (settings.learning_rate, settings.weight_decay, settings.momentum, EPSILON)
    fixed = (
        Clients(jnp.asarray(division.offsets, jnp.int32), jnp.asarray(division.indices, jnp.int32)),
        Examples(jnp.asarray(bank.train.features), jnp.asarray(bank.train.labels)),
        Frozen(jnp.asarray(bank.text_features), *map(jnp.float32, (bank.logit_scale, case.alpha, case.beta))),
        Hyper(*map(jnp.float32, hyper)),
        jax.random.key(0),
    )
    state, losses = init_server(cachefl.init(jnp.asarray(case.keys)), SERVER_OPTIMIZERS[server[0]](*server[1:])), []
    for cohort in cohorts:
        padded = cohort + [0] * (division.clients - len(cohort))
        state, metrics = one_round(state, Cohort(jnp.asarray(padded, jnp.int32), jnp.int32(len(cohort))), *fixed)
        assert int(metrics.examples) == sum(division.sizes[client] for client in cohort)
        losses.append(float(metrics.train_loss))
    return np.asarray(state.params.keys), losses


def assert_same(case: Case, ours: tuple[np.ndarray, list[float]], reference: tuple[np.ndarray, list[float]]) -> None:
    """Keys and losses within 1e-5, the keys after having moved a thousand times as far."""
    (keys, losses), (expected, expected_losses) = ours, reference
    difference, moved = (float(np.abs(keys - other).max()) for other in (expected, case.keys))
    print(f"largest difference of keys {difference:.1e}, after moving {moved:.1e}")
    assert moved > 1e3 * TOLERANCE
    assert difference < TOLERANCE
    np.testing.assert_allclose(losses, expected_losses, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("settings", [ADAMW, SGD, PLAIN_SGD], ids=["adamw", "sgd_momentum_decay", "sgd"])
def test_three_rounds_of_full_batches_equal_torch(small_case, settings):
    cohorts = [list(range(small_case.division.clients))] * ROUNDS
    reference = torch_federation(small_case, settings, cohorts, fedavg(), full_batches)
    assert_same(small_case, our_federation(small_case, settings, cohorts), reference)


@pytest.mark.parametrize("settings", [ADAMW, SGD], ids=["adamw", "sgd_momentum_decay"])
def test_three_rounds_on_real_clip_features_equal_torch(real_bank, settings):
    case = make_case(real_bank("caltech101_68"), clients=10, keys_per_class=2, alpha=10.0, beta=1.0)
    cohorts = [list(range(10))] * ROUNDS
    reference = torch_federation(case, settings, cohorts, fedavg(), full_batches)
    assert_same(case, our_federation(case, settings, cohorts), reference)


@pytest.mark.parametrize("settings", [ADAMW, SGD], ids=["adamw", "sgd_momentum_decay"])
def test_given_cohorts_are_averaged_by_their_own_samples_alone(small_case, settings):
    cohorts = [[3, 1], [2], [0, 4, 3, 1]]
    reference = torch_federation(small_case, settings, cohorts, fedavg(), full_batches)
    assert_same(small_case, our_federation(small_case, settings, cohorts), reference)


@pytest.mark.parametrize(
    ("server", "step"),
    [
        (("sgd", 0.7, 0.9), fedavgm(0.7, 0.9)),
        (("adam", 0.01, 0.9), fedadam(0.01, 0.9)),
    ],
    ids=["fedavgm", "fedadam"],
)
def test_server_optimizers_follow_their_formulas(small_case, server, step):
    cohorts = [[0, 1, 2, 3, 4], [4, 2], [1, 3, 0]]
    reference = torch_federation(small_case, SGD, cohorts, step, full_batches)
    assert_same(small_case, our_federation(small_case, SGD, cohorts, server), reference)


@pytest.mark.parametrize("settings", [ADAMW, SGD], ids=["adamw", "sgd_momentum_decay"])
def test_mini_batches_follow_the_documented_order_and_the_smaller_last_one_is_averaged_over_what_it_has(
    small_case, settings
):
    settings = settings._replace(batch_size=4)
    assert any(size % 4 for size in small_case.division.sizes)
    cohorts = [list(range(5))] * ROUNDS
    reference = torch_federation(small_case, settings, cohorts, fedavg(), replayed_batches)
    assert_same(small_case, our_federation(small_case, settings, cohorts), reference)
