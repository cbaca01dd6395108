"""What is read from updates: against NumPy's gradient of one row, hand-made pulls, and updates that tell nothing."""

import numpy as np
import pytest

from cachefl_jax.federation import CLIENT_OPTIMIZERS, Hyper, Linear, LocalTraining
from cachefl_jax.methods.cachefl import Frozen, cachefl
from cachefl_jax.methods.linear_probe import linear_probe
from cachefl_jax.methods.method import loss_of_scores, training_loss
from cachefl_jax.privacy.audit.closeness import closeness, figure, named_share, paired
from cachefl_jax.privacy.audit.inversion import Known, gradient_of, invert
from cachefl_jax.privacy.audit.labels import deal_rows, infer_counts, labels_of, same_classes, wrong_share

pytestmark = pytest.mark.quick

N, K, D, V = 4, 3, 24, 6
RATE, EPSILON, DECAY = 0.01, 1e-4, 0.01


def unit(seed: int, *shape: int) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=shape)
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


CENTRES = unit(0, N, D)
KEYS = unit(1, N, K, D) * np.float32(0.3) + CENTRES[:, None]
KEYS /= np.linalg.norm(KEYS, axis=-1, keepdims=True)
FROZEN = Frozen(CENTRES, *(np.float32(number) for number in (2.0, 1.5, 1.0)))


def rows_of(labels: np.ndarray, seed: int = 2) -> np.ndarray:
    """Features around the classes' centres."""
    rows = CENTRES[labels] + 0.8 * unit(seed, *labels.shape, D)
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def known(method, optimizer: str, params: np.ndarray, frozen) -> Known:
    linear = Linear(lambda rows: rows.features, loss_of_scores(method))
    local = LocalTraining(training_loss(method), CLIENT_OPTIMIZERS[optimizer], 1, 1, 1, linear)
    means = KEYS.mean(axis=1)
    hyper = Hyper(*(np.float32(number) for number in (RATE, DECAY, 0.0, EPSILON)))
    return Known(local, hyper, frozen, params, means / np.linalg.norm(means, axis=1, keepdims=True))


def gradient(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """CacheFL's, of the mean cross-entropy of rows [B, D], in float64: [N, K, D]."""
    features, keys = features.astype(np.float64), KEYS.astype(np.float64)
    affinities = np.exp(-FROZEN.beta * (1 - np.einsum("bd,nkd->bnk", features, keys)))
    logits = FROZEN.logit_scale * features @ CENTRES.T + FROZEN.alpha * affinities.sum(axis=2)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    wrong = odds / odds.sum(axis=1, keepdims=True) - np.eye(N)[labels]
    slopes = wrong[:, :, None] * FROZEN.alpha * FROZEN.beta * affinities
    return np.einsum("bnk,bd->nkd", slopes, features) / len(labels)


def update(features: np.ndarray, labels: np.ndarray, optimizer: str) -> np.ndarray:
    """Of one step from KEYS, rounded as the params are."""
    slope = gradient(features, labels)
    step = slope / (np.abs(slope) + EPSILON) if optimizer == "adamw" else slope
    trained = (KEYS - RATE * (step + DECAY * KEYS)).astype(np.float32)
    return trained - KEYS


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_one_row_is_read_from_its_update(optimizer):
    """NumPy's rank-one update gives its feature and its label, whatever the optimizer."""
    labels = np.arange(V)[:, None] % N
    features = rows_of(labels)
    sent = np.stack([update(*each, optimizer) for each in zip(features, labels, strict=True)])
    told = known(cachefl, optimizer, KEYS, FROZEN)
    blocks = gradient_of(told, sent, 1)
    counts = infer_counts(blocks, told.means, 1)
    np.testing.assert_array_equal(labels_of(counts), labels)
    found = invert(told, blocks, labels_of(counts))
    np.testing.assert_allclose((found * features).sum(axis=2), 1, atol=1e-5)


def test_undone_steps_are_the_gradient():
    labels = np.array([0, 1, 3])
    features = rows_of(labels)
    slope = gradient(features, labels)
    for optimizer in ("sgd", "adamw"):
        told = known(cachefl, optimizer, KEYS, FROZEN)
        found = gradient_of(told, update(features, labels, optimizer)[None], 1)[0]
        loud = np.abs(slope) > 1e-4
        np.testing.assert_allclose(found[loud], -slope[loud], rtol=0.02)


def test_several_rows_are_nearer_than_by_chance():
    labels = np.array([[0, 1, 3], [1, 2, 2], [0, 0, 3], [0, 2, 3]])
    features = rows_of(labels)
    sent = np.stack([update(*each, "sgd") for each in zip(features, labels, strict=True)])
    told = known(cachefl, "sgd", KEYS, FROZEN)
    found = invert(told, gradient_of(told, sent, 1), labels)
    right, other = closeness(found, features), closeness(np.roll(found, 1, axis=0), features)
    guess = closeness(told.means[labels], features)
    assert right.mean() > max(other.mean(), guess.mean()) + 0.1
    assert right[[0, 3]].min() > 0.99  # a row a class


def test_an_update_that_tells_nothing_gives_chance():
    """Of random numbers the attack finds nothing: it has no other way to the truth."""
    draws, labels = 40, np.arange(40)[:, None] % N
    features = unit(7, draws, 1, D)
    told = known(cachefl, "sgd", KEYS, FROZEN)
    noise = np.random.default_rng(8).normal(size=(draws, N, K, D)).astype(np.float32)
    found = invert(told, gradient_of(told, noise, 1), labels)
    expected = np.sqrt(2 / (np.pi * D))  # the mean |cos| of random directions
    assert abs(closeness(found, features).mean() - expected) < 5 * np.sqrt(1 / D / draws)
    rows = np.arange(draws)[:, None]
    assert named_share(found, rows, features[:, 0]).mean() < 0.2
    assert named_share(features, rows, features[:, 0]).mean() == 1
    counts = infer_counts(noise, told.means, 1)
    truth = np.eye(N, dtype=int)[labels[:, 0]]
    assert abs(wrong_share(counts, truth).mean() - (1 - 1 / N)) < 5 * np.sqrt((1 - 1 / N) / N / draws)


def test_no_change_gives_the_servers_own_mean():
    told = known(cachefl, "adamw", KEYS, FROZEN)
    still = ((1 - RATE * DECAY) * KEYS - KEYS).astype(np.float32)[None]
    blocks = gradient_of(told, still, 1)
    assert not blocks.any()
    assert not infer_counts(blocks, told.means, 2).any()
    found = invert(told, blocks, np.array([[-1, 2]], np.int32))[0]
    overall = told.means.mean(axis=0)
    np.testing.assert_allclose(found, [overall / np.linalg.norm(overall), told.means[2]], atol=1e-6)


def test_a_linear_probe_is_read_too():
    labels = np.array([[2], [0]])
    features = rows_of(labels)
    weights = CENTRES
    odds = np.exp(5 * features[:, 0] @ weights.T)
    slopes = 5 * (odds / odds.sum(axis=1, keepdims=True) - np.eye(N)[labels[:, 0]])
    sent = (-RATE * (slopes[:, :, None] * features + DECAY * weights[None])).astype(np.float32)
    told = known(linear_probe, "sgd", weights, np.float32(5))
    blocks = gradient_of(told, sent, 1)
    assert blocks.shape == (2, N, 1, D)
    found = invert(told, blocks, labels_of(infer_counts(blocks, told.means, 1)))
    np.testing.assert_allclose((found * features).sum(axis=2), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("pull", "rows", "counts"),
    [
        ([3.0, -1.0, 1.0, -3.0], 2, [1, 0, 1, 0]),
        ([3.0, -1.0, 1.0, -3.0], 1, [1, 0, 0, 0]),  # the strongest
        ([3.0, -1.0, 1.0, -3.0], 6, [4, 0, 2, 0]),  # 1 each, and 4 by 3 : 1
        ([1.0, 1.0, 1.0, -3.0], 4, [2, 1, 1, 0]),
        ([-1.0, -1.0, -1.0, -1.0], 4, [0, 0, 0, 0]),
        ([0.0, 0.0, 0.0, 0.0], 4, [0, 0, 0, 0]),
    ],
)
def test_rows_are_dealt_to_the_classes_that_are_pulled(pull, rows, counts):
    np.testing.assert_array_equal(deal_rows(np.array(pull), rows), counts)


def test_scores_by_hand():
    counts, truth = np.array([[1, 1, 0], [0, 2, 0]]), np.array([[1, 1, 0], [1, 1, 0]])
    np.testing.assert_array_equal(same_classes(counts, truth), [True, False])
    np.testing.assert_array_equal(wrong_share(counts, truth), [0.0, 0.5])
    true = np.eye(3)[:2]
    found = np.array([[0.0, -0.8, 0.6], [0.6, 0.8, 0.0]])
    np.testing.assert_array_equal(paired(found, true), [1, 0])  # 0.6 + 0.8, not 0 + 0.8
    np.testing.assert_allclose(closeness(found[None], true[None]), [0.7])
    told = figure(np.array([0.0, 1.0, 1.0, 0.0]), 0.95)
    assert (told.mean, told.low) == (0.5, 0.0) or told.low == pytest.approx(0.5 - 1.959964 * np.sqrt(1 / 12))
    assert told.high == pytest.approx(min(0.5 + 1.959964 * np.sqrt(1 / 12), 1))
