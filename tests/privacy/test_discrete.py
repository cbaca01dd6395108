"""The distributed discrete Gaussian: its law, its bounds and what it spends."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dp_accounting import dp_event, rdp
from scipy import stats

from cachefl_jax.privacy.accounting import Exposure, calibrated, spent
from cachefl_jax.privacy.discrete import FEWEST, MOST, ROOM, concentrated, longest, step_of
from cachefl_jax.privacy.secure.distributed import discrete_gaussian, rotated, rounded, turned_back

pytestmark = pytest.mark.quick

DRAWS = 100_000


def law(deviation: float, far: int) -> np.ndarray:
    """Probabilities of -far to far."""
    weights = np.exp(-(np.arange(-far, far + 1) ** 2) / (2 * deviation**2))
    return weights / weights.sum()


@pytest.mark.parametrize("deviation", [1.0, 3.7])
def test_draws_have_the_law(deviation):
    drawn = np.asarray(jax.jit(discrete_gaussian, static_argnums=2)(jax.random.key(0), deviation, DRAWS))
    assert (drawn == np.round(drawn)).all()
    far = int(3 * deviation)
    expected = law(deviation, 40)[40 - far : 41 + far]
    counts = [(drawn == value).sum() for value in range(-far, far + 1)]
    counts, expected = np.append(counts, DRAWS - sum(counts)), np.append(expected, 1 - expected.sum()) * DRAWS
    assert stats.chisquare(counts, expected).pvalue > 1e-4
    assert abs(drawn.mean()) < 5 * deviation / math.sqrt(DRAWS)
    assert abs(drawn.var() / (law(deviation, 40) @ np.arange(-40, 41) ** 2) - 1) < 5 * math.sqrt(2 / DRAWS)


def test_many_steps_have_the_variance_and_no_gaps():
    drawn = np.asarray(discrete_gaussian(jax.random.key(1), jnp.float32(30_000.0), DRAWS))
    assert abs(drawn.var() / 30_000.0**2 - 1) < 5 * math.sqrt(2 / DRAWS)
    assert abs((drawn % 2).mean() - 0.5) < 5 * 0.5 / math.sqrt(DRAWS)


@pytest.mark.parametrize("count", [64, 100])
def test_a_rotation_keeps_lengths_flattens_and_turns_back(count):
    one = jnp.zeros(count).at[count // 2].set(3.0)
    turned = rotated(one, jax.random.key(0))
    assert float(jnp.linalg.norm(turned)) == pytest.approx(3.0, rel=1e-5)
    assert float(jnp.abs(turned).max()) < 1.5
    np.testing.assert_allclose(turned_back(turned, jax.random.key(0)), one, atol=1e-5)
    assert np.abs(np.asarray(rotated(one, jax.random.key(1)) - turned)).max() > 0.1


def test_roundings_are_neighbours_within_the_bound():
    numbers = jnp.linspace(-2.3, 2.1, 50)
    keys, most = jax.random.split(jax.random.key(0), 400), float(jnp.linalg.norm(numbers)) + 0.4
    drawn = np.asarray(jax.vmap(lambda key: rounded(numbers, most, key))(keys))
    assert (np.abs(drawn - np.asarray(numbers)) < 1).all()
    norms = np.linalg.norm(drawn, axis=1)
    assert norms.max() <= most
    free = np.asarray(jax.vmap(lambda key: rounded(numbers, 1e9, key))(keys))
    assert np.linalg.norm(free, axis=1).max() > most
    assert np.abs(free.mean(axis=0) - np.asarray(numbers)).max() < 5 * 0.5 / math.sqrt(400)


def test_the_bound_of_a_rounding_is_that_of_the_paper():
    """By hand, for gamma = 0.01 and 10,000 numbers: 1 + 0.25 + 0.01 (1 + 0.5), for beta = exp(-1/2)."""
    assert longest(0.01, 10_000) == pytest.approx(math.sqrt(1.265))
    assert longest(1.0, 1) == pytest.approx(math.sqrt(1 + 0.25 + 1.5))
    assert longest(1e-9, 10) == pytest.approx(1.0)


@pytest.mark.parametrize("own", [0.6, 0.9, 2.0])
def test_a_sum_spends_at_most_what_the_theorem_says(own):
    """The sum of 3 clients' noise by convolution, against itself moved by up to 2 steps: its Renyi divergences."""
    one = law(own, 40)
    total = np.convolve(np.convolve(one, one), one)
    apart = 10 * sum(math.exp(-2 * (math.pi * own) ** 2 * k / (k + 1)) for k in (1, 2))
    for shift in (1, 2):
        rho = (shift / (math.sqrt(3) * own) + apart) ** 2 / 2
        for order in (1.5, 2.0, 4.0):
            here, moved = total[shift:-shift], total[: -2 * shift]
            inside = (here > 1e-30) & (moved > 1e-30)
            found = np.log((here[inside] ** order * moved[inside] ** (1 - order)).sum()) / (order - 1)
            assert 0.3 * order * rho < found + apart
            assert found <= order * rho


def test_epsilon_is_that_of_the_concentrated_bound_and_near_the_gaussians():
    exposure = Exposure("distributed", 100, 100, "rdp", bits=24)
    event = dp_event.SelfComposedDpEvent(dp_event.ZCDpEvent(concentrated(3.0, 100, 24)), 50)
    assert spent(exposure, 3.0, 50) == pytest.approx(rdp.RdpAccountant().compose(event).get_epsilon(1e-5), abs=1e-9)
    central = spent(Exposure("full", 100, 100, "rdp"), 3.0, 50)
    assert central < spent(exposure, 3.0, 50) < 1.001 * central
    assert spent(exposure._replace(bits=16), 3.0, 50) > 1.01 * central
    assert spent(exposure._replace(bits=8), 3.0, 50) == math.inf or spent(exposure._replace(bits=8), 3.0, 50) > 10
    noise = calibrated(exposure, 4.0, 50)
    assert spent(exposure, noise, 50) <= 4.0 < spent(exposure, noise * 0.999, 50)
    assert concentrated(1.0, 10_000, 8) == math.inf


def test_a_sum_has_room():
    """Of clients alike: half of the modulus is `ROOM` deviations of the rotated sum, the roundings and the noise."""
    step = step_of(2.0, 50, 16)
    deviation = math.sqrt(50**2 / FEWEST + 4.0 + 50 * step**2 / 4)
    assert 2**15 * step == pytest.approx(ROOM * deviation)
    assert MOST * 2 * math.exp(-(ROOM**2) / 2) < 1e-7
