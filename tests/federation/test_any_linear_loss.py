"""Coefficients know nothing of caches either: any loss of products with features, over any rows.

Here a linear probe, one leaf deep in a dict, on weighted rows that lie in a dict.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cachefl_jax.federation import (
    CLIENT_OPTIMIZERS,
    Clients,
    Federation,
    Hyper,
    Linear,
    LocalTraining,
    Plan,
    Problem,
    ServerHyper,
    everybody,
    init_server,
    make_round,
    plan_batches,
    prepare,
)

pytestmark = pytest.mark.quick

SIZES = [5, 1, 9, 4]
ROWS, WIDTH, CLASSES = sum(SIZES), 12, 3
# In one block; the last lanes hold one client.
SCAN, DUAL = Plan("scan"), Plan("dual", 3, block_rows=20)


def loss_of_scores(scores, frozen, batch):
    """Cross-entropy, times the row's own weight, [B]."""
    return frozen["scale"] * batch["weight"] * optax.softmax_cross_entropy_with_integer_labels(scores, batch["y"])


def loss(params, frozen, batch):
    return loss_of_scores(batch["x"] @ params["head"]["weight"].T, frozen, batch)


@pytest.fixture
def train():
    """(plan, batch_size=4, proximal=None, learning rate=0.1, epochs=2) -> (head at the start, after two rounds)."""
    rng = np.random.default_rng(0)
    data = {
        "x": jnp.asarray(rng.normal(size=(ROWS, WIDTH)), jnp.float32),
        "y": jnp.asarray(rng.integers(0, CLASSES, ROWS), jnp.int32),
        "weight": jnp.asarray(rng.uniform(0.5, 1.5, ROWS), jnp.float32),
    }
    head = jnp.asarray(rng.normal(size=(CLASSES, WIDTH)), jnp.float32)
    offsets = jnp.asarray(np.concatenate([[0], np.cumsum(SIZES)]), jnp.int32)
    clients = Clients(offsets, jnp.asarray(rng.permutation(ROWS), jnp.int32))

    def run(plan: Plan, batch_size: int = 4, proximal: float | None = None, rate: float = 0.1, epochs: int = 2):
        linear = Linear(lambda data: data["x"], loss_of_scores)
        sizes = plan_batches(batch_size, max(SIZES))
        proxed = proximal is not None
        local = LocalTraining(loss, CLIENT_OPTIMIZERS["sgd"], epochs, *sizes, linear=linear, proximal=proxed)
        hyper = Hyper(*map(jnp.float32, (rate, 0.0, 0.0, 1e-4, proximal or 0.0, np.inf)))
        server = ServerHyper(*map(jnp.float32, (1.0, 0.0)))
        problem = Problem(clients, data, {"scale": jnp.float32(0.5)}, hyper, server, jax.random.key(0))
        problem, one_round = prepare(Federation(local), plan, problem), make_round(Federation(local), plan)
        state = init_server(Federation(local), {"head": {"weight": head}}, problem)
        for _ in range(2):
            state, _ = one_round(state, everybody(4), problem)
        return np.asarray(head), np.asarray(state.params["head"]["weight"])

    return run


def test_coefficients_serve_any_loss_of_scores_and_params_of_any_one_leaf(train):
    start, expected = train(SCAN)
    np.testing.assert_allclose(train(DUAL)[1], expected, rtol=0, atol=1e-6)
    assert np.abs(expected - start).max() > 1e-2


def test_no_random_key_is_used_twice(train):
    with jax.debug_key_reuse(True):
        train(DUAL)


@pytest.mark.parametrize(
    ("batch_size", "proximal", "rate", "epochs"),
    [(0, 8.0, 0.125, 1), (0, 8.0, 0.125, 3), (1, 2.0, 0.49, 3)],
    ids=["one_step_all_the_way", "three_steps_all_the_way", "27_steps_almost_all_the_way"],
)
def test_a_proximal_term_that_takes_steps_all_the_way_back_leaves_numbers(train, batch_size, proximal, rate, epochs):
    """1 - learning rate x proximal is what a step leaves of those before it: 0 to the bit, or 0.02, 27 times over."""
    start, expected = train(SCAN, batch_size, proximal, rate, epochs)
    np.testing.assert_allclose(train(DUAL, batch_size, proximal, rate, epochs)[1], expected, rtol=0, atol=1e-6)
    assert np.abs(expected - start).max() > 1e-2
