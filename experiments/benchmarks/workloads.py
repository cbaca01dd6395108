"""The jobs that the benchmark gives to everybody, made of NumPy alone so that a peer's interpreter can make them too.

Clients of equal size, no shuffling, a uniform mean, everybody takes part: the common ground of all simulators. The
features are drawn around one centre a class, the keys around the same centres, as CLIP's would lie.

Axis letters: C clients, n rows of all clients, N classes, K keys a class, D features.
"""

from typing import NamedTuple

import numpy as np

LOGIT_SCALE, ALPHA, BETA = 100.0, 1.17, 5.5
WEIGHT_DECAY, EPSILON = 0.01, 1e-4  # of AdamW; SGD is plain
OPTIMIZERS = ("sgd", "adamw")


class Workload(NamedTuple):
    classes: int
    keys: int  # a class
    width: int
    clients: int
    samples: int  # a client
    batch: int
    learning_rate: float
    rounds: int  # timed; one more comes first, which compiles
    epochs: int = 1


class Arrays(NamedTuple):
    """A workload's data; a client is a slice of index rows."""

    features: np.ndarray  # [n, D] float32
    labels: np.ndarray  # [n] int32
    offsets: np.ndarray  # [C + 1]
    indices: np.ndarray  # [n]
    keys: np.ndarray  # [N, K, D] float32
    text: np.ndarray  # [N, D] float32


WORKLOADS = {
    "small": Workload(10, 16, 512, clients=100, samples=64, batch=32, learning_rate=1e-3, rounds=30),
    "large": Workload(100, 16, 512, clients=50, samples=64, batch=32, learning_rate=1e-3, rounds=10),
    "imagenet": Workload(1000, 16, 512, clients=100, samples=64, batch=32, learning_rate=1e-3, rounds=3),
}


def make(workload: Workload) -> Arrays:
    """The arrays, the same for everybody to the last bit: the order of the draws is part of the contract."""
    rng = np.random.default_rng(0)
    centres = unit_rows(rng.normal(size=(workload.classes, workload.width)))
    labels = rng.integers(0, workload.classes, size=(workload.clients, workload.samples)).astype(np.int32)
    noise = rng.normal(size=(*labels.shape, workload.width))
    features = unit_rows(centres[labels] + 0.15 * noise)
    near = np.repeat(centres, workload.keys, axis=0)
    keys = unit_rows(near + 0.1 * rng.normal(size=near.shape))
    text = unit_rows(centres + 0.3 * rng.normal(size=centres.shape))
    rows = labels.size
    return Arrays(
        features.reshape(rows, workload.width),
        labels.reshape(rows),
        np.arange(workload.clients + 1) * workload.samples,
        np.arange(rows),
        keys.reshape(workload.classes, workload.keys, workload.width),
        text,
    )


def unit_rows(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def fingerprint(keys: np.ndarray, start: np.ndarray) -> dict[str, float]:
    """What final keys are compared by: their sum, and how far they came, which a sum over many signs hardly shows."""
    keys, start = keys.reshape(-1).astype(np.float64), start.reshape(-1).astype(np.float64)
    return {"key_sum": float(keys.sum()), "key_change": float(np.linalg.norm(keys - start))}
