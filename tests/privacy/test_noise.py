"""The noise of private rounds has the variance that they promise, and nothing in common with other draws."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cachefl_jax.federation import Release
from cachefl_jax.privacy.matrix import coefficients, matrix, sensitivity
from cachefl_jax.privacy.noise import Noise, adaptive, gaussian

pytestmark = pytest.mark.quick

DRAWS, E = 100_000, 6.0


def floats(tree):
    return jax.tree.map(jnp.float32, tree)


def released(mechanism, aggregate, hyper: Noise, state=(), number: int = 0, told=()):
    release = Release(jax.random.key(number), jnp.int32(number), jnp.int32(6), told, floats(hyper))
    return mechanism.release(aggregate, state, release)


def test_noise_has_the_promised_variance():
    zeros = {"one": jnp.zeros((250, DRAWS // 500)), "other": jnp.zeros(DRAWS // 2)}
    noise, _ = released(gaussian, zeros, Noise(1.5, 2.0, 4.0))
    one, other = np.ravel(noise["one"]), np.ravel(noise["other"])
    drawn = np.concatenate([one, other]) / (1.5 * 2.0 / 4.0)
    assert len(drawn) == DRAWS
    assert abs(drawn.var() - 1) < 5 * np.sqrt(2 / DRAWS)
    assert abs(drawn.mean()) < 5 / np.sqrt(DRAWS)
    assert abs((one * other).mean()) < 5 * (1.5 * 2.0 / 4.0) ** 2 / np.sqrt(DRAWS / 2)


def test_the_share_of_short_updates_has_noise():
    hyper = Noise(0.0, 1.0, E, 0.3, 0.5, 2.0)
    keys = jax.random.split(jax.random.key(0), DRAWS)

    def one(key):
        release = Release(key, jnp.int32(0), jnp.int32(6), jnp.float32([4.0]), floats(hyper))
        return adaptive.release(jnp.zeros(3), jnp.float32(1.0), release)[1]

    moved = np.log(jax.vmap(one)(keys))
    assert abs(moved.std() / (0.5 * 2.0 / E) - 1) < 5 / np.sqrt(2 * DRAWS)
    assert abs(moved.mean() + 0.5 * (4 / 6 - 0.3)) < 5 * (0.5 * 2.0 / E) / np.sqrt(DRAWS)


def test_bits_and_updates_have_noise_of_their_own():
    """What is drawn for the bits is nowhere in the updates' noise."""
    hyper = Noise(1.0, 1.0, 1.0, 0.0, 1.0, 1.0)
    keys = jax.random.split(jax.random.key(1), 20_000)

    def one(key):
        release = Release(key, jnp.int32(0), jnp.int32(0), jnp.zeros(1), floats(hyper))
        noise, moved = adaptive.release(jnp.zeros(3), jnp.float32(1.0), release)
        return jnp.append(noise, jnp.log(moved))

    correlation = np.corrcoef(np.asarray(jax.vmap(one)(keys)).T)
    assert np.abs(correlation - np.eye(4)).max() < 5 / np.sqrt(len(keys))


@pytest.mark.parametrize(("bands", "rounds", "separation"), [(3, 6, 1), (4, 7, 2), (2, 7, 3), (5, 3, 1), (2, 1, 1)])
def test_a_matrix_has_the_sensitivity_of_the_worst_client(bands, rounds, separation):
    column = np.append(coefficients(bands), np.zeros(rounds))[:rounds]
    strategy = sum(np.diag(np.full(rounds - at, number), -at) for at, number in enumerate(column))
    patterns = (np.array(each) for each in itertools.product((0, 1), repeat=rounds))
    allowed = [each for each in patterns if all(np.diff(np.flatnonzero(each)) >= separation)]
    worst = max(np.linalg.norm(strategy @ each) for each in allowed)
    assert sensitivity(bands, rounds, separation) == pytest.approx(worst, rel=1e-6)


def test_the_matrix_takes_correlated_noise_back():
    """C times the noise of the rounds is independent noise of the promised variance, and their sum is less."""
    bands, rounds, numbers = 4, 8, 20_000
    mechanism, noise = matrix(bands), []
    state = mechanism.state(jnp.zeros(numbers), ())
    for number in range(rounds):
        drawn, state = released(mechanism, jnp.zeros(numbers), Noise(1.5, 2.0, 4.0), state, number)
        noise.append(drawn)
    column = np.append(coefficients(bands), np.zeros(rounds - bands))
    strategy = sum(np.diag(np.full(rounds - at, number), -at) for at, number in enumerate(column))
    white = strategy @ np.stack(noise) / (1.5 * 2.0 / 4.0)
    assert np.abs(white @ white.T / numbers - np.eye(rounds)).max() < 5 * np.sqrt(2 / numbers)
    assert np.sum(noise, axis=0).std() < 0.75 * np.sqrt(rounds) * 1.5 * 2.0 / 4.0
