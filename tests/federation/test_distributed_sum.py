"""Noise of all clients in a secure sum: the server has the noisy sum alone, equal to the bit, or nothing."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cachefl_jax.federation import Federation, PartHyper, Plan, compile_run, init_server
from cachefl_jax.federation.aggregation import uniform
from cachefl_jax.privacy.secure.distributed import Discrete, discrete, noisy_encoder, noisy_sum, turned_back
from cachefl_jax.privacy.secure.graph import Settings
from cachefl_jax.privacy.secure.replay import replay, uploads_of

pytestmark = pytest.mark.quick
SIZES = [5, 9, 1, 12, 3]


@pytest.fixture(scope="module")
def setting(make_federation, make_local):
    ours, settings = make_federation(SIZES), Settings(20, 0, 0.5)
    numbers = jax.tree.map(jnp.float32, discrete(0.1, 0.5, len(SIZES), settings.bits))
    ours = ours.changed(part_hyper=PartHyper((numbers,), numbers))
    parts = noisy_encoder(settings, fewest=2), noisy_sum(settings, len(SIZES))
    return ours, Federation(make_local(12, 12, optimizer="sgd", epochs=1), transforms=parts[:1], aggregation=parts[1])


def test_the_server_sees_the_noisy_sum_alone_to_the_bit(setting):
    """The protocol with its masks, NumPy's sum of the integers, and the mean that the round makes of it."""
    ours, federation = setting
    state = init_server(federation, ours.params, ours.problem)
    told = replay(federation, Settings(20, 0, 0.5), state, ours.problem)
    assert told["recovered"]
    assert told["equals_plain_sum"]
    assert told["equals_round"]
    again = init_server(federation, ours.params, ours.problem)
    uploads = jax.device_get(uploads_of(federation, again, ours.problem))
    words = uploads.updates.words.keys.reshape(len(SIZES), -1).astype(np.int64)
    signed = words - 2**20 * (words >= 2**19)
    numbers: Discrete = ours.problem.part_hyper.aggregation
    plain = turned_back(jnp.asarray(signed.sum(axis=0), jnp.float32), uploads.received.key)
    found = uploads.aggregate.keys.reshape(-1)
    np.testing.assert_allclose(found, plain * numbers.step / len(SIZES), rtol=1e-4, atol=1e-7)


def test_the_mean_has_the_noise_of_one_server(setting):
    """Updates are shorter than S, so that the mean is off by noise of z S / n a number, and little rounding."""
    ours, federation = setting

    def after(federation, problem):
        state = init_server(federation, ours.params, problem)
        return compile_run(federation, Plan("scan"), 1, state, problem)(state, jnp.int32(1), problem)[0]

    plain = federation._replace(transforms=(), aggregation=uniform)
    exact = after(plain, ours.problem._replace(part_hyper=PartHyper())).params.keys
    drawn = []
    for seed in range(6):
        found = after(federation, ours.problem._replace(key=jax.random.key(seed)))
        drawn.append(np.asarray(found.params.keys - exact).reshape(-1))
    assert int(found.parts.aggregation.failed) == 0
    ratio = np.concatenate(drawn) / (0.5 * 0.1 / len(SIZES))
    assert abs(np.mean(ratio**2) - 1) < 5 * math.sqrt(2 / ratio.size) + 0.02


def test_a_round_in_which_a_client_is_missing_changes_nothing(setting):
    ours, federation = setting
    federation = federation._replace(aggregation=noisy_sum(Settings(20, 0, 0.5), len(SIZES) + 1))
    uploads = uploads_of(federation, init_server(federation, ours.params, ours.problem), ours.problem)
    assert not np.asarray(uploads.aggregate.keys).any()
