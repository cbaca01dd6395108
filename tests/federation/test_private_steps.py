"""Steps that are private for each example: gradients are bounded one by one, as by a loop over the rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cachefl_jax.federation import Federation, PartHyper, Plan, compile_run, init_server
from cachefl_jax.federation.examples import Privacy, any_sums, linear_sums, private_gradient
from cachefl_jax.federation.local import loss_and_gradient
from cachefl_jax.federation.plan import fits_dual

pytestmark = pytest.mark.quick

SIZES = [5, 9, 1, 12, 3, 7]
ROWS, SCAN = 6, Plan("scan")


@pytest.fixture
def setting(make_federation, make_local):
    return make_federation(SIZES), make_local(4, 12, optimizer="sgd", epochs=1)


@pytest.fixture
def batch(setting):
    """((rows, which are valid), the gradient of each row)."""
    ours, local = setting
    rows = jax.tree.map(lambda leaf: leaf[:ROWS], ours.problem.data)

    def of_one(number):
        one = jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, number, 1), rows)
        return jax.grad(lambda params: local.loss(params, ours.problem.frozen, one)[0])(ours.params)

    return (rows, jnp.arange(ROWS) < ROWS - 1), jax.vmap(of_one)(jnp.arange(ROWS)).keys


@pytest.mark.parametrize("sums", [linear_sums, any_sums])
def test_gradients_are_bounded_one_by_one(setting, batch, sums):
    (ours, local), (given, gradients) = setting, batch
    norms = np.linalg.norm(np.reshape(gradients, (ROWS, -1)), axis=1)
    limit = float(np.median(norms))
    _, found = jax.jit(lambda params: sums(local, params, ours.problem.frozen, given, limit))(ours.params)
    factors = np.minimum(1, limit / norms)[: ROWS - 1]
    assert np.sum(factors < 1) >= 2
    expected = np.tensordot(factors, np.asarray(gradients)[: ROWS - 1], axes=1)
    np.testing.assert_allclose(found.keys, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("linear", [True, False])
def test_without_bound_and_noise_it_is_the_plain_gradient(setting, batch, linear):
    (ours, local), (given, _) = setting, batch
    local = local if linear else local._replace(linear=None)
    privacy = Privacy(jnp.float32(1e6), jnp.float32(0), jax.random.key(0))
    found = private_gradient(local, ours.params, ours.problem.frozen, given, privacy)
    plain = loss_and_gradient(local, ours.params, ours.problem.frozen, *given)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_the_noise_of_a_step_has_the_promised_variance(setting, batch):
    (ours, local), (given, _) = setting, batch

    def step(noise, key):
        privacy = Privacy(jnp.float32(0.1), noise, key)
        return private_gradient(local, ours.params, ours.problem.frozen, given, privacy)[1].keys

    keys = jax.random.split(jax.random.key(2), 1000)
    drawn = jax.vmap(step, (None, 0))(jnp.float32(2.0), keys) - step(jnp.float32(0), keys[0])[None]
    drawn = np.ravel(drawn) / (2.0 * 0.1 / (ROWS - 1))
    assert drawn.size > 100_000
    assert abs(drawn.var() - 1) < 5 * np.sqrt(2 / drawn.size)
    assert abs(drawn.mean()) < 5 / np.sqrt(drawn.size)


def trained(ours, local, privacy=None, plan=SCAN):
    hyper = PartHyper() if privacy is None else PartHyper(examples=jax.tree.map(jnp.float32, privacy))
    federation, problem = Federation(local), ours.problem._replace(part_hyper=hyper)
    state = init_server(federation, ours.params, problem)
    return compile_run(federation, plan, 1, state, problem)(state, jnp.int32(1), problem)[0].params.keys


def test_a_private_round_is_the_plain_one_plus_the_noise_of_its_steps(setting):
    ours, local = setting
    private, rate = local._replace(private=True), float(ours.problem.hyper.learning_rate)
    plain, silent, loud, other = (
        trained(ours, local), trained(ours, private, Privacy(1e6, 0.0)), trained(ours, private, Privacy(0.1, 3.0)),
        trained(ours, private, Privacy(0.1, 3.0), Plan("chunk", 2)),
    )  # fmt: skip
    np.testing.assert_allclose(silent, plain, rtol=0, atol=1e-6)
    np.testing.assert_allclose(other, loud, rtol=0, atol=1e-5)
    # Weights by rows; a client's steps have noise of 0.3 / rows of the batch each, times the rate.
    batches = [[min(4, size - first) for first in range(0, size, 4)] for size in SIZES]
    variance = sum((size / sum(SIZES)) ** 2 * sum((0.3 / rows) ** 2 for rows in each)
                   for size, each in zip(SIZES, batches, strict=True))  # fmt: skip
    quiet = trained(ours, private, Privacy(0.1, 0.0))
    drawn = np.asarray(loud - quiet) / (rate * np.sqrt(variance))
    assert abs(np.mean(drawn**2) - 1) < 6 * np.sqrt(2 / drawn.size)


def test_noise_of_steps_needs_the_params(setting):
    _, local = setting
    assert fits_dual(Federation(local))
    assert not fits_dual(Federation(local._replace(private=True)))
