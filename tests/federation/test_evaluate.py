"""Figures of evaluated rows against NumPy's in float64 and against scikit-learn's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, log_loss

from cachefl_jax.federation import figures, make_scores, score_rows
from cachefl_jax.federation.evaluate import BATCH, BINS
from cachefl_jax.methods import Rows
from cachefl_jax.methods.cachefl import Cache, Frozen, cachefl
from cachefl_jax.methods.zero_shot import zero_shot

pytestmark = pytest.mark.quick

CLASSES = 5  # the last has no rows


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    rows = rng.normal(size=shape)
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def reference(logits: np.ndarray, labels: np.ndarray) -> dict:
    """The figures of logits [n, N], row after row in float64."""
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    bins = [[] for _ in range(BINS)]
    for row, label in zip(probabilities, labels, strict=True):
        lower = max(edge for edge in range(BINS) if row.max() > edge / BINS)  # bins are open below, closed above
        bins[lower].append((row.max(), row.argmax() == label))
    ece = sum(len(each) * abs(np.mean(each, axis=0) @ [1, -1]) for each in bins if each) / len(labels)
    answers = logits.argmax(axis=1)
    each = [
        (answers[labels == label] == label).mean() if (labels == label).any() else np.nan for label in range(CLASSES)
    ]
    return {
        "accuracy": (answers == labels).mean(),
        "balanced_accuracy": balanced_accuracy_score(labels, np.where(answers == CLASSES - 1, -1, answers)),
        "ece": ece,
        "cross_entropy": log_loss(labels, probabilities, labels=range(CLASSES)),
        "class_accuracy": np.asarray(each),
    }


@pytest.fixture(scope="module")
def problem():
    """(frozen, keys): logits of CacheFL and of zero-shot CLIP that are neither sure nor at a loss."""
    rng = np.random.default_rng(0)
    frozen = Frozen(jnp.asarray(unit(rng, CLASSES, 8)), *map(jnp.float32, (3.0, 2.0, 1.5)))
    return frozen, unit(rng, CLASSES, 3, 8)


def logits_of(frozen: Frozen, keys: np.ndarray, features: np.ndarray) -> dict:
    """{method: (its params, its logits in float64)}"""
    features, keys, text = (np.asarray(part, np.float64) for part in (features, keys, frozen.text))
    affinities = np.exp(-1.5 * (1 - np.einsum("bd,nkd->bnk", features, keys))).sum(axis=2)
    plain = 3 * features @ text.T
    return {zero_shot: ((), plain), cachefl: (Cache(jnp.asarray(keys, jnp.float32)), plain + 2 * affinities)}


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true:UserWarning")
@pytest.mark.parametrize("rows", [1, BATCH, 2 * BATCH + 77])
def test_figures_are_numpys_and_scikit_learns_for_any_number_of_rows(problem, rows):
    frozen, keys = problem
    rng = np.random.default_rng(rows)
    features, labels = unit(rng, rows, 8), rng.integers(0, CLASSES - 1, rows).astype(np.int32)
    for method, (params, logits) in logits_of(frozen, keys, features).items():
        given = Rows(jnp.asarray(labels), jnp.asarray(features))
        scores = make_scores(method.logits, each_row=True)(params, frozen, given)
        assert np.asarray(scores.correct).tolist() == (logits.argmax(axis=1) == labels).tolist()
        assert scores.rows.tolist() == np.bincount(labels, minlength=CLASSES).tolist()
        for name, figure in reference(logits, labels).items():
            found = getattr(figures(scores), name)
            np.testing.assert_allclose(found, figure, rtol=0, atol=0 if "accuracy" in name else 2e-6, err_msg=name)


def test_several_models_at_once_are_each_as_by_itself(problem):
    frozen, keys = problem
    rng = np.random.default_rng(1)
    rows = Rows(jnp.asarray(rng.integers(0, CLASSES, 40), jnp.int32), jnp.asarray(unit(rng, 40, 8)))
    models = jnp.stack([keys, -keys, 0 * keys])
    score = jax.jit(functools.partial(score_rows, cachefl.logits, True))
    for apply in (jax.vmap, lambda score: lambda models: jax.lax.map(score, models)):
        together = figures(apply(lambda keys: score(Cache(keys), frozen, rows))(models))
        for number, keys in enumerate(models):
            alone = figures(score(Cache(keys), frozen, rows))
            for found, figure in zip(together, alone, strict=True):
                np.testing.assert_allclose(found[number], figure, rtol=0, atol=1e-6)


@pytest.mark.parametrize("scale", [jnp.inf, 3e38])
def test_logits_that_overflow_or_lie_too_far_apart_answer_nothing(scale):
    """Logits of 3e38 and -3e38 are numbers; their difference, which the cross-entropy takes, is not."""
    frozen = Frozen(jnp.asarray([[1.0, 0.0], [-1.0, 0.0]]), *map(jnp.float32, (scale, 3.0, 2.0)))
    rows = Rows(jnp.asarray([0, 1]), jnp.asarray([[1.0, 0.0], [1.0, 0.0]]))
    told = figures(make_scores(zero_shot.logits)((), frozen, rows))
    assert all(np.isnan(figure).all() for figure in told)


def test_ties_go_to_the_lowest_class():
    """Without text features zero-shot CLIP has no opinion: it answers 0, and knows that it guesses."""
    frozen = Frozen(jnp.zeros((3, 2)), *map(jnp.float32, (10.0, 3.0, 2.0)))
    rows = Rows(jnp.asarray([0, 0, 1, 2]), jnp.ones((4, 2)))
    told = figures(make_scores(zero_shot.logits)((), frozen, rows))
    assert told.accuracy == 0.5
    assert told.class_accuracy.tolist() == [1, 0, 0]
    assert told.balanced_accuracy == pytest.approx(1 / 3)
    assert told.ece == pytest.approx(0.5 - 1 / 3)
    assert told.cross_entropy == pytest.approx(np.log(3))
