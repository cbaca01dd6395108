"""CacheFL's logits and gradient against the formulas, and what a single client's update gives away.

    A[b,n,k] = exp(-beta (1 - f[b] . key[n,k]))
    z[b,n]   = s f[b] . text[n] + alpha sum_k A[b,n,k]
    dL/dkey[n,k] = (p[n] - 1[n = y]) alpha beta A[n,k] f        for one sample (f, y)

Axis letters: B batch, N classes, K keys a class, D features.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cachefl_jax.config import default
from cachefl_jax.federation import (
    CLIENT_OPTIMIZERS,
    Clients,
    Federation,
    Hyper,
    LocalTraining,
    Plan,
    Problem,
    ServerHyper,
    everybody,
    init_server,
    make_round,
)
from cachefl_jax.methods import Rows, Server, find_method, text_logits
from cachefl_jax.methods.cachefl import Cache, Frozen, cache_logits, cachefl, cosines
from cachefl_jax.methods.method import loss_of_scores, training_loss
from cachefl_jax.methods.zero_shot import zero_shot

pytestmark = pytest.mark.quick

# (logit scale, alpha, beta): mild, CLIP's scale, a sharp cache, and a cache whose logits count against their class.
SETTINGS = [(10.0, 1.0, 1.0), (100.0, 3.0, 5.5), (20.0, 10.0, 12.0), (10.0, -2.0, 3.0)]


class Setting(NamedTuple):
    """Float64 arrays of a small problem; classes lie close together, as CLIP's do."""

    features: np.ndarray  # [B, D]
    labels: np.ndarray  # [B]
    keys: np.ndarray  # [N, K, D], not all of length 1
    text: np.ndarray  # [N, D]
    scale: float
    alpha: float
    beta: float

    @property
    def frozen(self) -> Frozen:
        return Frozen(jnp.asarray(self.text), jnp.asarray(self.scale), jnp.asarray(self.alpha), jnp.asarray(self.beta))

    @property
    def rows(self) -> Rows:
        return Rows(jnp.asarray(self.labels), jnp.asarray(self.features))

    def mean_loss(self, keys: jax.Array) -> jax.Array:
        """The method's training loss over the batch; keys [N, K, D]."""
        return training_loss(cachefl)(Cache(keys), self.frozen, self.rows).mean()


def make_setting(
    scale: float, alpha: float, beta: float, rows: int = 5, classes: int = 4, per_class: int = 3
) -> Setting:
    rng = np.random.default_rng(0)
    centre = rng.normal(size=6)

    def near(*shape: int) -> np.ndarray:
        directions = centre + 0.5 * rng.normal(size=(*shape, 6))
        return directions / np.linalg.norm(directions, axis=-1, keepdims=True)

    keys = near(classes, per_class) * rng.uniform(0.8, 1.2, size=(classes, per_class, 1))
    return Setting(near(rows), rng.integers(0, classes, rows), keys, near(classes), scale, alpha, beta)


def naive_logits(setting: Setting) -> np.ndarray:
    """Tip-Adapter's product with one-hot values, [B, N]: nothing is summed by shape."""
    classes, per_class, width = setting.keys.shape
    values = np.eye(classes)[np.repeat(np.arange(classes), per_class)]  # [NK, N]
    flat = setting.keys.reshape(classes * per_class, width)
    return setting.scale * setting.features @ setting.text.T + setting.alpha * (
        np.exp(-setting.beta * (1 - setting.features @ flat.T)) @ values
    )


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference by the largest entry."""
    return float(np.abs(np.asarray(found) - expected).max() / np.abs(expected).max())


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("numbers", SETTINGS)
def test_logits_equal_tip_adapters_product_with_one_hot_values(float64, numbers):
    setting = make_setting(*numbers)
    logits = cachefl.logits(Cache(jnp.asarray(setting.keys)), setting.frozen, setting.rows)
    np.testing.assert_allclose(logits, naive_logits(setting), rtol=1e-12)


@pytest.mark.parametrize("numbers", SETTINGS)
def test_loss_of_each_example_is_softmax_cross_entropy(float64, numbers):
    setting = make_setting(*numbers)
    losses = training_loss(cachefl)(Cache(jnp.asarray(setting.keys)), setting.frozen, setting.rows)
    expected = -np.log(softmax(naive_logits(setting))[np.arange(5), setting.labels])
    np.testing.assert_allclose(losses, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("numbers", SETTINGS)
@pytest.mark.parametrize("known", [False, True], ids=["text_logits_computed", "text_logits_known"])
def test_loss_meets_the_keys_in_their_products_with_the_features_alone(float64, numbers, known):
    """What makes training on coefficients possible; text logits that are known once a run change nothing."""
    setting = make_setting(*numbers)
    cache, rows = Cache(jnp.asarray(setting.keys)), setting.rows
    rows = rows._replace(text_logits=text_logits(setting.frozen, rows)) if known else rows
    products = np.einsum("bd,nkd->bnk", setting.features, setting.keys)
    np.testing.assert_allclose(cosines(cache, rows.features), products, rtol=1e-12, atol=1e-15)
    # The features themselves are gone where the text logits are known.
    seen = rows._replace(features=jnp.zeros_like(rows.features)) if known else rows
    losses = loss_of_scores(cachefl)(jnp.asarray(products), setting.frozen, seen)
    expected = -np.log(softmax(naive_logits(setting))[np.arange(5), setting.labels])
    np.testing.assert_allclose(losses, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(training_loss(cachefl)(cache, setting.frozen, rows), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("numbers", SETTINGS)
def test_gradient_equals_finite_differences_to_1e_6(float64, numbers):
    setting, step = make_setting(*numbers), 1e-5
    keys = jnp.asarray(setting.keys)
    shifts = step * np.eye(keys.size).reshape(-1, *keys.shape)
    losses = jax.jit(jax.vmap(setting.mean_loss))
    difference = (losses(keys[None] + shifts) - losses(keys[None] - shifts)) / (2 * step)
    gradient = jax.grad(setting.mean_loss)(keys)
    error = relative_error(gradient, np.asarray(difference).reshape(keys.shape))
    print(f"relative error {error:.1e}")
    assert error < 1e-6


@pytest.mark.parametrize("numbers", SETTINGS)
def test_gradient_equals_its_closed_form(float64, numbers):
    setting = make_setting(*numbers)
    residual = softmax(naive_logits(setting)) - np.eye(4)[setting.labels]
    affinity = np.exp(-setting.beta * (1 - np.einsum("bd,nkd->bnk", setting.features, setting.keys)))
    expected = setting.alpha * setting.beta * np.einsum("bn,bnk,bd->nkd", residual, affinity, setting.features) / 5
    gradient = jax.grad(setting.mean_loss)(jnp.asarray(setting.keys))
    assert relative_error(gradient, expected) < 1e-12


def test_affinity_is_1_on_a_key_and_falls_faster_the_larger_beta_is():
    features = jnp.asarray([[1.0, 0.0], [0.6, 0.8]])
    cache = Cache(features[:1, None])  # one class with one key, where the first feature lies
    for beta in (0.5, 5.0):
        frozen = Frozen(jnp.zeros((1, 2)), *map(jnp.float32, (0.0, 1.0, beta)))
        affinities = cache_logits(cosines(cache, features), frozen)
        np.testing.assert_allclose(affinities[:, 0], [1, np.exp(-beta * 0.4)], rtol=1e-6)


def test_the_cache_at_round_0_is_the_synthetic_features_and_nothing_else():
    synthetic = jnp.asarray(make_setting(*SETTINGS[0]).keys, jnp.float32)
    server = Server(np.asarray(synthetic), np.zeros((4, 6), np.float32), 10.0, tuple("abcd"))
    leaves = jax.tree.leaves(find_method("cachefl").init(server, default()))
    assert len(leaves) == 1
    np.testing.assert_array_equal(leaves[0], synthetic)


def test_without_alpha_the_logits_are_zero_shot_clips():
    setting = make_setting(10.0, 0.0, 1.0)
    frozen, rows = jax.tree.map(jnp.float32, (setting.frozen, setting.rows))
    logits = cachefl.logits(Cache(jnp.asarray(setting.keys, jnp.float32)), frozen, rows)
    np.testing.assert_array_equal(logits, zero_shot.logits((), frozen, rows))
    np.testing.assert_allclose(logits, 10 * setting.features @ setting.text.T, rtol=1e-5)


def one_sgd_step(setting: Setting, rows: int) -> np.ndarray:
    """How the server's keys change in a round whose only client makes one SGD step on `rows` rows, [NK, D]."""
    local = LocalTraining(training_loss(cachefl), CLIENT_OPTIMIZERS["sgd"], epochs=1, batch_size=rows, capacity=rows)
    data = Rows(jnp.asarray(setting.labels[:rows], jnp.int32), jnp.asarray(setting.features[:rows], jnp.float32))
    clients = Clients(jnp.asarray([0, rows]), jnp.arange(rows))
    keys = jnp.asarray(setting.keys, jnp.float32)
    frozen, hyper, server = jax.tree.map(jnp.float32, (setting.frozen, Hyper(1.0, 0.0, 0.0, 1e-4), ServerHyper()))
    problem = Problem(clients, data, frozen, hyper, server, jax.random.key(0))
    federation = Federation(local)
    one_round = make_round(federation, Plan("scan"))
    state, _ = one_round(init_server(federation, Cache(keys), problem), everybody(1), problem)
    return np.asarray(state.params.keys - keys, np.float64).reshape(-1, keys.shape[-1])


def test_one_sample_and_one_sgd_step_give_away_the_feature_and_the_label():
    setting = make_setting(10.0, 3.0, 2.0)
    update = one_sgd_step(setting, rows=1)
    _, strengths, directions = np.linalg.svd(update)
    assert strengths[1] < 1e-5 * strengths[0], "the update has rank 1"
    assert abs(directions[0] @ setting.features[0]) > 1 - 1e-4, "its direction is the feature"
    towards = (update @ setting.features[0] > 0).reshape(4, 3)
    expected = np.zeros((4, 3), bool)
    expected[setting.labels[0]] = True
    np.testing.assert_array_equal(towards, expected, "the keys of the label, and no others, move towards the feature")


def test_one_sgd_step_on_a_batch_has_no_more_directions_than_samples():
    setting = make_setting(10.0, 3.0, 2.0)
    strengths = np.linalg.svd(one_sgd_step(setting, rows=4), compute_uv=False)
    assert strengths[4] < 1e-5 * strengths[0]
    assert strengths[3] > 1e-4 * strengths[0], "every sample adds a direction of its own"
