"""Two small tasks for the federated algorithms: a cache that is tuned, and softmax regression, which has two leaves.

Clients differ in rows, steps and classes; the plain loops take both in float64.
"""

import jax
import numpy as np
import torch
from torch_federation import Task

from cachefl_jax.federation import plan_batches
from cachefl_jax.federation.orders import shuffled

SIZES = np.array([7, 33, 64, 12, 90])
COHORTS = [[0, 2, 4], [1, 3, 4], [0, 1, 2]]  # whoever comes back comes with another neighbour
OFFSETS = np.concatenate([[0], np.cumsum(SIZES)])
BATCH, EPOCHS = 16, 2  # from 2 to 12 steps a client
CAPACITY = plan_batches(BATCH, int(SIZES.max()))[1]
CLASSES, PER_CLASS, WIDTH = 3, 2, 8
SCALE, ALPHA, BETA = 4.0, 2.0, 1.5  # of the text logits, the cache logits and the affinities


def unit_rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Random directions, float32."""
    rows = rng.normal(size=shape)
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


RNG = np.random.default_rng(11)
FEATURES, TEXT, KEYS = unit_rows(RNG, SIZES.sum(), WIDTH), unit_rows(RNG, CLASSES, WIDTH), unit_rows(RNG, 3, 2, WIDTH)
OWNERS = np.repeat(np.arange(len(SIZES)), SIZES)
SKEWED = RNG.random(len(OWNERS)) < 0.6  # rows of the class that a client has most of
LABELS = np.where(SKEWED, OWNERS % CLASSES, RNG.integers(0, CLASSES, len(OWNERS)))
WEIGHT, BIAS = (0.1 * RNG.normal(size=shape).astype(np.float32) for shape in ((CLASSES, WIDTH), (CLASSES,)))


def rows_of_steps(number: int, client: int) -> list[np.ndarray]:
    """The documented order: a key by run, round and client; epochs fold their number in; batches are cut in order."""
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), number), client)
    batches = []
    for epoch in range(EPOCHS):
        order = np.asarray(shuffled(jax.random.fold_in(key, epoch), SIZES[client], CAPACITY))[: SIZES[client]]
        rows = OFFSETS[client] + order
        batches += [rows[first : first + BATCH] for first in range(0, len(rows), BATCH)]
    return batches


def mean_loss(logits: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
    """Softmax cross-entropy of the rows, []."""
    return torch.nn.functional.cross_entropy(logits, torch.tensor(LABELS[rows]))


def doubles(array: np.ndarray) -> torch.Tensor:
    """As float64."""
    return torch.tensor(array, dtype=torch.float64)


def cache_loss(params: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
    """z = scale f . text + alpha sum_k exp(-beta (1 - f . key_k)); params are the keys [N, K, D]."""
    features = doubles(FEATURES[rows])
    affinities = torch.exp(-BETA * (1 - torch.einsum("bd,nkd->bnk", features, params.reshape(KEYS.shape))))
    return mean_loss(SCALE * features @ doubles(TEXT).T + ALPHA * affinities.sum(-1), rows)


def softmax_loss(params: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
    """z = scale f W^T + b; params are W [N, D], then b [N]."""
    weight, bias = params[: WEIGHT.size].reshape(WEIGHT.shape), params[WEIGHT.size :]
    return mean_loss(SCALE * doubles(FEATURES[rows]) @ weight.T + bias, rows)


STARTS = {"cache": KEYS.ravel(), "softmax": np.concatenate([WEIGHT.ravel(), BIAS])}
LOSSES = {"cache": cache_loss, "softmax": softmax_loss}
TASKS = {name: Task(STARTS[name].astype(np.float64), LOSSES[name], SIZES, rows_of_steps) for name in LOSSES}
