"""The engine knows nothing of caches: it federates any params pytree with any loss over any pytree of rows.

Here a linear probe as a nested dict with a bias and a scalar temperature, on rows that lie in a dict.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cachefl_jax.federation import (
    CLIENT_OPTIMIZERS,
    SERVER_OPTIMIZERS,
    Clients,
    Cohort,
    Federation,
    Hyper,
    LocalTraining,
    Plan,
    Problem,
    ServerHyper,
    ServerState,
    everybody,
    init_server,
    make_round,
    plan_batches,
)

pytestmark = pytest.mark.quick

SIZES = [5, 1, 9, 4]
SERVER = ServerHyper(*(jnp.asarray(x, jnp.float32) for x in (1.0, 0.0)))
ROWS, WIDTH, CLASSES = sum(SIZES), 6, 3
HYPER = Hyper(*(jnp.asarray(x, jnp.float32) for x in (0.1, 0.0, 0.0, 1e-4, 0.0, np.inf)))


def probe_loss(params, frozen, batch):
    """Cross-entropy of temperature * (x W + bias), times the row's own weight, [B]."""
    logits = params["temperature"] * (batch["x"] @ params["head"]["weight"] + params["head"]["bias"][None])
    return frozen["scale"] * batch["weight"] * optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"])


@pytest.fixture
def params() -> dict:
    rng = np.random.default_rng(0)
    return {
        "head": {
            "weight": jnp.asarray(rng.normal(size=(WIDTH, CLASSES)), jnp.float32),
            "bias": jnp.asarray(rng.normal(size=CLASSES), jnp.float32),
        },
        "temperature": jnp.asarray(2.0, jnp.float32),
    }


@pytest.fixture
def problem() -> Problem:
    return scattered()


def scattered() -> Problem:
    """Every client's rows lie scattered over the data."""
    rng = np.random.default_rng(1)
    data = {
        "x": jnp.asarray(rng.normal(size=(ROWS, WIDTH)), jnp.float32),
        "y": jnp.asarray(rng.integers(0, CLASSES, ROWS), jnp.int32),
        "weight": jnp.asarray(rng.uniform(0.5, 1.5, ROWS), jnp.float32),
    }
    offsets = jnp.asarray(np.concatenate([[0], np.cumsum(SIZES)]), jnp.int32)
    clients = Clients(offsets, jnp.asarray(rng.permutation(ROWS), jnp.int32))
    return Problem(clients, data, {"scale": jnp.asarray(0.5, jnp.float32)}, HYPER, SERVER, jax.random.key(0))


def start(params) -> ServerState:
    return init_server(Federation(training()), params, scattered())


def training(batch_size: int = 0, epochs: int = 1, loss=probe_loss) -> LocalTraining:
    return LocalTraining(loss, CLIENT_OPTIMIZERS["sgd"], epochs, *plan_batches(batch_size, max(SIZES)))


@functools.cache
def full_batch_round():
    """FedSGD: one step a client, on all its rows."""
    return make_round(Federation(training()), Plan("chunk", 3))


@functools.cache
def mini_batch_round():
    return make_round(Federation(training(batch_size=4, epochs=2)), Plan("chunk", 3))


def padded(*cohort: int) -> Cohort:
    """These clients, padded to all four."""
    clients = [*cohort] + [0] * (len(SIZES) - len(cohort))
    return Cohort(jnp.asarray(clients, jnp.int32), jnp.asarray(len(cohort), jnp.int32))


def numpy_step(params: dict, rows: np.ndarray, data: dict, scale: float, learning_rate: float) -> dict:
    """One gradient step on the mean loss of `rows`, in float64."""
    x, y, weight = (np.asarray(data[name])[rows] for name in ("x", "y", "weight"))
    matrix, bias = (np.asarray(params["head"][name], np.float64) for name in ("weight", "bias"))
    temperature = float(params["temperature"])
    scores = x @ matrix + bias
    powers = np.exp(temperature * scores)
    residual = powers / powers.sum(axis=1, keepdims=True) - np.eye(CLASSES)[y]
    residual *= scale * weight[:, None] / len(rows)
    return {
        "head": {
            "weight": matrix - learning_rate * temperature * x.T @ residual,
            "bias": bias - learning_rate * temperature * residual.sum(axis=0),
        },
        "temperature": temperature - learning_rate * (residual * scores).sum(),
    }


def assert_same(found: dict, expected: dict, tolerance: float = 1e-6) -> None:
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=0, atol=tolerance), found, expected)


def test_fedsgd_is_gradient_descent_on_the_cohorts_pooled_rows(params, problem):
    """One full-batch step a client, averaged by samples, is one step on all their rows: McMahan et al.'s FedSGD."""
    one_round, state, expected = full_batch_round(), start(params), params
    clients, data = problem.clients, problem.data
    bounds, indices = np.asarray(clients.offsets), np.asarray(clients.indices)
    for cohort in ([0, 1, 2, 3], [2, 1], [3], [3, 0, 1]):
        state, _ = one_round(state, padded(*cohort), problem)
        rows = np.concatenate([indices[bounds[client] : bounds[client + 1]] for client in cohort])
        expected = numpy_step(expected, rows, data, scale=0.5, learning_rate=0.1)
    assert_same(state.params, expected)
    assert abs(float(expected["temperature"]) - 2.0) > 1e-3
    assert np.abs(expected["head"]["bias"] - np.asarray(params["head"]["bias"])).max() > 1e-3


@pytest.mark.parametrize("server", [("sgd", 1.0, 0.0), ("adam", 0.1, 0.9)], ids=["fedavg", "fedadam"])
def test_an_empty_cohort_changes_nothing_but_the_rounds_number(params, problem, server):
    name, *numbers = server
    optimizer, hyper = SERVER_OPTIMIZERS[name], ServerHyper(*map(jnp.float32, numbers))
    one_round = full_batch_round() if name == "sgd" else make_round(Federation(training(), optimizer), Plan("chunk", 3))
    state, metrics = one_round(
        init_server(Federation(training(), optimizer), params, problem._replace(server=hyper)),
        padded(),
        problem._replace(server=hyper),
    )
    assert int(state.round) == 1
    assert_same(state.params, params, tolerance=0.0)
    assert float(metrics.train_loss) == 0.0
    assert int(metrics.examples) == 0


def test_clients_without_rows_weigh_nothing(params, problem):
    """A cohort may hold some, and may hold nobody else; those side by side with them are not disturbed."""
    offsets = jnp.asarray([0, 0, 7, 7, ROWS], jnp.int32)
    crowd = problem._replace(clients=problem.clients._replace(offsets=offsets))

    def train(*cohort: int) -> dict:
        return mini_batch_round()(start(params), padded(*cohort), crowd)[0].params

    assert_same(train(0, 2), params, tolerance=0.0)
    assert_same(train(2, 1, 0), jax.tree.map(np.asarray, train(1)), tolerance=1e-7)
    assert not np.array_equal(train(1)["temperature"], params["temperature"])


def test_no_random_key_is_used_twice(params, problem):
    """JAX's own check follows every key through the whole round."""
    with jax.debug_key_reuse(True):
        one_round = make_round(Federation(training(batch_size=4, epochs=2)), Plan("chunk", 2))
        state = start(params)
        for _ in range(2):
            state, _ = one_round(state, everybody(4), problem)
    assert int(state.round) == 2


def test_the_check_for_keys_used_twice_sees_into_the_loss(params, problem):
    """Without this, the test above would pass where the check does not work."""

    def careless(params, frozen, batch):
        key = jax.random.key(0)
        noise = jax.random.normal(key, ()) + jax.random.normal(key, ())
        return probe_loss(params, frozen, batch) + noise

    with jax.debug_key_reuse(True), pytest.raises(jax.errors.KeyReuseError):
        make_round(Federation(training(loss=careless)), Plan("chunk", 2))(start(params), everybody(4), problem)


def test_a_python_number_in_the_params_is_traced_once(params, problem):
    """A caller's plain 2.0 becomes an array that keeps its type from round to round."""
    traces = []

    def counted(params, frozen, batch):
        traces.append(None)
        return probe_loss(params, frozen, batch)

    one_round = make_round(Federation(training(loss=counted)), Plan("chunk", 2))
    state = start(params | {"temperature": 2.0})
    state, _ = one_round(state, everybody(4), problem)
    first = len(traces)
    for _ in range(2):
        state, _ = one_round(state, everybody(4), problem)
    assert len(traces) == first


def test_init_server_copies_so_that_a_round_cannot_take_the_callers_arrays(params, problem):
    before = jax.tree.map(np.asarray, params)
    full_batch_round()(start(params), everybody(4), problem)
    assert_same(params, before, tolerance=0.0)
