"""Accuracy against NumPy's."""

import jax.numpy as jnp
import numpy as np
import pytest

from cachefl_jax.federation import make_accuracy
from cachefl_jax.federation.evaluate import BATCH
from cachefl_jax.methods import Rows
from cachefl_jax.methods.cachefl import Cache, Frozen, cachefl
from cachefl_jax.methods.zero_shot import zero_shot


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    rows = rng.normal(size=shape)
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("rows", [1, BATCH, 2 * BATCH + 77])
def test_accuracy_equals_numpys_for_any_number_of_rows(rows):
    rng = np.random.default_rng(rows)
    features, text, keys = unit(rng, rows, 8), unit(rng, 4, 8), unit(rng, 4, 3, 8)
    labels = rng.integers(0, 4, rows).astype(np.int32)
    frozen = Frozen(jnp.asarray(text), *map(jnp.float32, (10.0, 3.0, 2.0)))
    cache_logits = np.exp(-2.0 * (1 - np.einsum("bd,nkd->bnk", features, keys))).sum(axis=2)
    for method, params, logits in (
        (zero_shot, (), 10 * features @ text.T),
        (cachefl, Cache(jnp.asarray(keys)), 10 * features @ text.T + 3 * cache_logits),
    ):
        accuracy = make_accuracy(method.logits)(params, frozen, Rows(jnp.asarray(labels), jnp.asarray(features)))
        assert accuracy == (logits.argmax(axis=1) == labels).sum() / rows


def test_ties_go_to_the_lowest_class():
    """Without text features zero-shot CLIP has no opinion: it answers 0."""
    frozen = Frozen(jnp.zeros((3, 2)), *map(jnp.float32, (10.0, 3.0, 2.0)))
    accuracy = make_accuracy(zero_shot.logits)((), frozen, Rows(jnp.asarray([0, 0, 1, 2]), jnp.ones((4, 2))))
    assert accuracy == 0.5
