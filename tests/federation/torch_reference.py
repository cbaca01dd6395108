"""A federation as a plain PyTorch loop: the same bank, partition and batches, and nothing else in common with ours.

Written from the method's formulas, in Tip-Adapter's form (keys [NK, D] and a one-hot value matrix [NK, N]), with
autograd, torch.optim, and Python loops over rounds, clients and steps. It computes in float64, so a difference is the
float32 rounding of the code under test.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
import torch

from cachefl_jax.config import default
from cachefl_jax.data import FeatureBank, Partition, load_bank, make_partition
from cachefl_jax.federation import plan_batches
from cachefl_jax.federation.orders import shuffled

EPSILON = 1e-4  # AdamW's
ROUNDS = 3


class Case(NamedTuple):
    """A bank dealt out to clients, and the cache at round 0."""

    bank: FeatureBank
    partition: Partition
    keys: np.ndarray  # [N, K, D]
    alpha: float
    beta: float

    def rows(self, client: int) -> np.ndarray:
        return self.partition.indices[self.partition.offsets[client] : self.partition.offsets[client + 1]]


class Settings(NamedTuple):
    """The clients' training."""

    optimizer: str
    learning_rate: float
    weight_decay: float
    momentum: float
    epochs: int
    batch_size: int = 0
    proximal: float = 0.0
    clip_norm: float = math.inf


def make_case(path, clients: int, keys_per_class: int, alpha: float, beta: float) -> Case:
    """A Dirichlet(0.3) partition of the bank at `path`."""
    bank = load_bank(path)
    config = default().partition
    config.update({"name": "dirichlet", "clients": clients, "concentration": 0.3})
    partition = make_partition(bank.train.labels, config, seed=0)
    assert len(set(partition.sizes)) > 2, "clients of several sizes, or the weights would not be tested"
    keys = [bank.synthetic.features[bank.synthetic.labels == label][:keys_per_class] for label in range(bank.classes)]
    return Case(bank, partition, np.stack(keys), alpha, beta)


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
    """(keys after a step on each batch, mean loss over the batches' rows before each step, without proximal term)."""
    keys = torch.tensor(start.reshape(-1, start.shape[-1]), dtype=torch.float64, requires_grad=True)
    servers = keys.detach().clone()
    common = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    if settings.optimizer == "adamw":
        optimizer = torch.optim.AdamW([keys], eps=EPSILON, **common)
    else:
        nesterov = settings.optimizer == "nesterov"
        optimizer = torch.optim.SGD([keys], momentum=settings.momentum, nesterov=nesterov, **common)
    total = 0.0
    for rows in batches:
        optimizer.zero_grad()
        loss = torch_loss(case, keys, rows)
        (loss + settings.proximal / 2 * ((keys - servers) ** 2).sum()).backward()
        # By hand: torch's clip_grad_norm_ adds 1e-6 to the norm.
        keys.grad *= min(1.0, settings.clip_norm / keys.grad.norm().item())
        optimizer.step()
        total += loss.item() * len(rows)
    return keys.detach().numpy().reshape(start.shape), total / sum(len(rows) for rows in batches)


def with_one_thread(function: Callable) -> Callable:
    """The matrices are small: torch's threads would only wait for each other."""

    @functools.wraps(function)
    def call(*arguments):
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return function(*arguments)
        finally:
            torch.set_num_threads(threads)

    return call


@with_one_thread
def torch_federation(
    case: Case,
    settings: Settings,
    cohorts: list[list[int]],
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
        keys = mean
        losses.append(mean_loss)
    return keys, losses


def full_batches(case: Case, settings: Settings, number: int, client: int) -> list[np.ndarray]:
    """All of a client's rows in every step."""
    del number
    return [case.rows(client)] * settings.epochs


def replayed_batches(case: Case, settings: Settings, number: int, client: int) -> list[np.ndarray]:
    """The documented order: a key by run, round and client; epochs fold their number in; batches are cut in order."""
    capacity = plan_batches(settings.batch_size, int(case.partition.sizes.max()))[1]
    client_key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), number), client)
    return batches_in_order(client_key, case.rows(client), capacity, settings.batch_size, settings.epochs)


def batches_in_order(key: jax.Array, rows: np.ndarray, capacity: int, size: int, epochs: int) -> list[np.ndarray]:
    """The batches that a client's key gives, of `size` rows or, at an epoch's end, fewer."""
    batches = []
    for epoch in range(epochs):
        order = np.asarray(shuffled(jax.random.fold_in(key, epoch), len(rows), capacity))[: len(rows)]
        batches += [rows[order[first : first + size]] for first in range(0, len(rows), size)]
    return batches
