"""Accuracy against NumPy's, and training alone against a federation of one."""

import jax.numpy as jnp
import numpy as np
import pytest

from cachefl_jax.federation import Plan, make_accuracy, make_alone, plan_batches
from cachefl_jax.federation.evaluate import BATCH
from cachefl_jax.methods import Cache, Frozen, cachefl, zero_shot

SIZES = [1, 7, 12, 3, 9, 12]


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    rows = rng.normal(size=shape)
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("rows", [1, BATCH, 2 * BATCH + 77])
def test_accuracy_equals_numpys_for_any_number_of_rows(rows):
    rng = np.random.default_rng(rows)
    features, text, keys = unit(rng, rows, 8), unit(rng, 4, 8), unit(rng, 4, 3, 8)
    labels = rng.integers(0, 4, rows).astype(np.int32)
    frozen = Frozen(jnp.asarray(text), *map(jnp.float32, (10.0, 3.0, 2.0)))
    votes = np.exp(-2.0 * (1 - np.einsum("bd,nkd->bnk", features, keys))).sum(axis=2)
    for method, params, logits in (
        (zero_shot, (), 10 * features @ text.T),
        (cachefl, Cache(jnp.asarray(keys)), 10 * features @ text.T + 3 * votes),
    ):
        accuracy = make_accuracy(method.logits)(params, frozen, jnp.asarray(features), jnp.asarray(labels))
        assert accuracy == (logits.argmax(axis=1) == labels).sum() / rows


def test_ties_go_to_the_lowest_class():
    """Without text features zero-shot CLIP has no opinion: it answers 0."""
    frozen = Frozen(jnp.zeros((3, 2)), *map(jnp.float32, (10.0, 3.0, 2.0)))
    accuracy = make_accuracy(zero_shot.logits)((), frozen, jnp.ones((4, 2)), jnp.asarray([0, 0, 1, 2]))
    assert accuracy == 0.5


def test_a_client_alone_equals_a_federation_of_which_it_is_the_only_client(make_federation, make_local):
    """Four rounds of mini-batch AdamW; the server takes its only client's keys as they are.

    Among the clients are one of a single row, one of fewer rows than a batch and one with a row over.
    """
    federation, local = make_federation(SIZES), make_local(*plan_batches(4, max(SIZES)))
    start, alone, problem = np.asarray(federation.params.keys), make_alone(local), federation.problem
    fixed = (problem.clients, problem.data, problem.frozen, problem.hyper)
    for client in range(len(SIZES)):
        params = federation.params
        for number in range(4):
            params = alone(problem.key, number, client, params, *fixed)
        federated = federation.train(local, [[client]] * 4, Plan("chunk", 3))[0].params
        np.testing.assert_allclose(params.keys, federated.keys, rtol=0, atol=1e-6)
        assert np.abs(np.asarray(params.keys) - start).max() > 1e-2
