"""Features to predictions, by the logits of the run that left the model.

Axis letters: n rows, N classes, K keys a class, D features, k nearest keys.
"""

import functools
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cachefl_jax.deploy.model import FIELD, Model
from cachefl_jax.errors import UsageError
from cachefl_jax.methods import Rows
from cachefl_jax.precision import run_precision

BATCH = 512  # rows


class Predictions(NamedTuple):
    """What a model says of rows."""

    logits: np.ndarray  # [n, N] float32
    probabilities: np.ndarray  # [n, N] float32, which add up to 1
    nearest: np.ndarray  # [n, k] int32, keys as N K in a row, the most similar first; k = 0 of a model without keys
    similarity: np.ndarray  # [n, k] float32, the cosines to them

    @property
    def predicted(self) -> np.ndarray:
        """[n] the class of each row's largest logit; ties go to the lowest class number, as in the run."""
        return self.logits.argmax(axis=1)


def predict(model: Model, features: np.ndarray, nearest: int = 0) -> Predictions:
    """Predictions on features [n, D], brought to length 1, with the `nearest` keys of each row.

    Raises UsageError: their width is another than the model's, a row has no direction, or logits are not finite."""
    return compute(model, unit_features(model, features), nearest)


def compute(model: Model, features: np.ndarray, nearest: int = 0) -> Predictions:
    """`predict` on features [n, D] float32 as they are."""
    keys = model.keys
    count = 0 if keys is None else min(nearest, keys.shape[0] * keys.shape[1])
    program = predictor(model.restored.logits, count)
    parts = []
    for rows, size in batches(features):
        found = jax.device_get(program(model.restored.params, model.restored.frozen, keys, rows))
        parts.append([array[:size] for array in found])
    joined = Predictions(*map(np.concatenate, zip(*parts, strict=True)))
    if not np.isfinite(joined.logits).all():
        raise UsageError(FIELD, f"{model.path} (logits that are not finite)", "a model of finite logits", "train again")
    return joined


@functools.cache
def predictor(logits, count: int):
    """(params, frozen, keys, features [B, D]) -> `Predictions` of a batch, compiled once a model's kind."""

    @jax.jit
    def compute(params, frozen, keys, features):
        with run_precision():
            z = logits(params, frozen, Rows(jnp.zeros(len(features), jnp.int32), features))
            probabilities = jax.nn.softmax(z, axis=1)
            if not count:
                return z, probabilities, jnp.zeros((len(features), 0), jnp.int32), jnp.zeros((len(features), 0))
            flat = keys.reshape(-1, keys.shape[-1])
            cosines = features @ (flat / jnp.linalg.norm(flat, axis=1, keepdims=True)).T
            similarity, places = jax.lax.top_k(cosines, count)
        return z, probabilities, places, similarity

    return compute


def batches(features: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
    """(rows of one shape, how many of them count): the last is filled up, so that one program serves all."""
    size = min(BATCH, len(features))
    for start in range(0, len(features), size):
        rows = features[start : start + size]
        yield np.concatenate([rows, np.repeat(rows[-1:], size - len(rows), axis=0)]), len(rows)


def unit_features(model: Model, features: np.ndarray) -> np.ndarray:
    """[n, D] float32, rows of length 1. Rows that have it already stay as they are, to the bit.

    Raises UsageError: another width, or a row that is zero or not finite."""
    if features.ndim != 2 or features.shape[1] != model.width or not len(features):
        wanted = f"[n, {model.width}], the width of {model.path.name}'s features"
        raise UsageError("features", f"an array of shape {features.shape}", wanted, "take the encoder of the run")
    features = np.asarray(features, np.float32)
    lengths = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    faulty = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if len(faulty):
        raise UsageError(f"features, row {faulty[0]}", "no direction", "finite rows that are not zero", "leave it out")
    return np.where(np.abs(lengths - 1) < 1e-6, features, features / lengths).astype(np.float32)


def read_features(path: pathlib.Path) -> np.ndarray:
    """[n, D] of a .npy, or of "features" in a .npz (or its only array). Never unpickled.

    Raises UsageError: there is no such array of numbers."""
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.lib.npyio.NpzFile):
            with loaded:
                names = loaded.files
                loaded = loaded["features" if "features" in names or len(names) != 1 else names[0]]
        if loaded.dtype.kind != "f":
            raise TypeError(f"numbers of {loaded.dtype}")
        return loaded
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        found = f"{path} ({' '.join(str(error).split())[:80]})"
        allowed = "a .npy, or a .npz with features, of floats [n, D]"
        raise UsageError("features", found, allowed, "save it by numpy.save") from error
