"""FedPFT's Gaussians, its draws and its head, against NumPy in float64."""

import jax
import numpy as np
import pytest

from cachefl_jax.methods import Rows
from cachefl_jax.methods.class_sums import Frozen
from cachefl_jax.methods.fed_pft import DRAWS, STEPS, draw, fed_pft, statistics, train
from cachefl_jax.precision import double_precision

pytestmark = pytest.mark.quick

CLASSES, IMAGES, WIDTH = 3, 4, 6


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture
def frozen():
    rng = np.random.default_rng(0)
    text, synthetic = rng.normal(size=(CLASSES, WIDTH)), rng.normal(size=(CLASSES, IMAGES, WIDTH))
    numbers = np.float32(5), unit(synthetic), np.float32(1), np.float32(3)
    return Frozen(unit(text), *numbers, (np.uint32(7),))


@pytest.fixture
def clients():
    """(features, labels) of three; the last has a single row."""
    rng = np.random.default_rng(1)
    made = [(unit(rng.normal(size=(n, WIDTH)) + 1), rng.integers(0, CLASSES, n).astype(np.int32)) for n in (30, 9, 1)]
    made[0][1][:CLASSES] = np.arange(CLASSES)
    return made


def sent(frozen, clients):
    """What each sends, [M, ...]; the first row of each, once more, is not valid."""
    found, compute = [], jax.jit(statistics)
    for features, labels in clients:
        rows = Rows(np.append(labels, labels[0]), np.concatenate([features, features[:1]]))
        found.append(jax.device_get(compute(frozen, rows, np.arange(len(labels) + 1) < len(labels))))
    return jax.tree.map(lambda *leaves: np.stack(leaves), *found)


def gaussians(clients, images):
    """(count [M + 1, N], mean and deviation [M + 1, N, D]) of the rows themselves; the last are the server's images."""
    everybody = [*clients, (images.reshape(-1, WIDTH), np.repeat(np.arange(CLASSES), IMAGES))]
    shape = len(everybody), CLASSES, WIDTH
    count, mean, deviation = np.zeros(shape[:2]), np.zeros(shape), np.zeros(shape)
    for number, (features, labels) in enumerate(everybody):
        for label in set(labels.tolist()):
            own = features[labels == label].astype(np.float64)
            count[number, label], mean[number, label], deviation[number, label] = len(own), own.mean(0), own.std(0)
    return count, mean, deviation


def descent(features, shares, start, frozen):
    """Nesterov's method on the weighted cross-entropy, in loops over what is plain in the formulas."""
    rows, labels = features.reshape(-1, WIDTH), np.tile(np.arange(CLASSES), len(features))
    weights, mix = np.tile(shares / len(features), len(features)), float(frozen.mix)
    text = float(frozen.logit_scale) * rows @ frozen.text.T.astype(np.float64)
    now = ahead = start
    for number in range(STEPS):
        scores = text + mix * rows @ ahead.T
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        errors = odds / odds.sum(axis=1, keepdims=True) - np.eye(CLASSES)[labels]
        gradient = mix * (errors * weights[:, None]).T @ rows
        new = ahead - 2 / mix**2 * gradient
        now, ahead = new, new + number / (number + 3) * (new - now)
    return now


def test_the_head_is_trained_on_draws_of_every_clients_gaussians(frozen, clients):
    count, mean, deviation = gaussians(clients, frozen.synthetic)
    with double_precision():
        features = jax.device_get(draw(count, mean, deviation, np.uint32(7)))
        head = jax.device_get(jax.jit(fed_pft.closed_form.solve)(sent(frozen, clients), frozen))
    shares = count.sum(axis=0) / count.sum()
    start = (count[..., None] * mean).sum(axis=0) / count.sum(axis=0)[:, None]
    expected = descent(features, shares, start, frozen)
    assert np.abs(expected - start).max() > 0.1
    np.testing.assert_allclose(head.weight, expected, rtol=0, atol=1e-5)


def test_draws_come_from_the_clients_by_their_rows():
    count = np.array([[16.0, 0.0], [8.0, 32.0], [8.0, 0.0]])
    mean = np.arange(3.0)[:, None, None] * np.ones((3, 2, 5))
    with double_precision():
        drawn = np.asarray(draw(count, mean, np.zeros_like(mean), np.uint32(0)))
        noise = np.asarray(draw(count, np.zeros_like(mean), np.ones_like(mean), np.uint32(0)))
    np.testing.assert_array_equal(np.bincount(drawn[:, 0, 0].astype(int)), [16, 8, 8])
    assert (drawn[:, 1] == 1).all()
    assert abs(noise.mean()) < 4 / np.sqrt(noise.size)
    assert abs(noise.var() - 1) < 4 * np.sqrt(2 / noise.size)
    assert len(drawn) == DRAWS


def test_the_descent_ends_near_the_least_of_the_loss(frozen):
    """By finite differences of the loss, which is convex."""
    rng = np.random.default_rng(2)
    features, shares = 0.1 * rng.normal(size=(DRAWS, CLASSES, WIDTH)), np.array([0.5, 0.3, 0.2])
    text = float(frozen.logit_scale) * features @ frozen.text.T.astype(np.float64)

    def loss(weight):
        scores = text + float(frozen.mix) * features @ weight.T
        own = scores[:, np.arange(CLASSES), np.arange(CLASSES)]
        return ((np.log(np.exp(scores).sum(axis=2)) - own) * shares).sum(axis=1).mean()

    def slopes(weight):
        found = np.zeros_like(weight)
        for place in np.ndindex(weight.shape):
            away = np.zeros_like(weight)
            away[place] = 1e-5
            found[place] = (loss(weight + away) - loss(weight - away)) / 2e-5
        return found

    start = np.zeros((CLASSES, WIDTH))
    with double_precision():
        trained = np.asarray(train(features, shares, start, frozen))
    assert loss(trained) < loss(start)
    assert np.abs(slopes(trained)).max() < 0.1 * np.abs(slopes(start)).max()
