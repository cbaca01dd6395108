"""Several versions of every row, a round each: the same as changing the data by hand between rounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cachefl_jax.federation import Federation, Plan, make_local_only, place, repeat_views, start_all
from cachefl_jax.federation.participation import everybody
from cachefl_jax.federation.run import train_rounds

SIZES, VIEWS, ROUNDS = [6, 5, 9, 1], 3, 4
PLANS = (Plan("scan"), Plan("chunk", 2), Plan("dual", 2, 1, 16), Plan("dual", 2, 2, 16))


@pytest.fixture(scope="module")
def versions(make_federation):
    """A federation a view, which differ in their features, and the one that holds them all."""
    one = make_federation(SIZES, width=16, scattered=True)
    turned = [jnp.roll(one.problem.data.features, number, axis=1) for number in range(VIEWS)]
    each = [one.changed(data=one.problem.data._replace(features=features)) for features in turned]
    clients = repeat_views(jax.tree.map(np.asarray, one.problem.clients), VIEWS)
    data = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *(view.problem.data for view in each))
    return each, one.changed(clients=jax.tree.map(jnp.asarray, clients), data=data)


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: f"{plan.strategy}-{plan.devices}")
def test_round_r_trains_on_view_r_modulo_their_number(versions, make_local, plan):
    each, together = versions
    local = make_local(4, 12, "sgd")
    state = each[0].start()
    everyone = list(range(len(SIZES)))
    for number in range(ROUNDS):
        view = each[number % VIEWS]
        state, _ = view.round(local, plan)(state, view.cohort(everyone), view.prepared(local, plan))
    turning = local._replace(views=VIEWS)
    problem = place(together.prepared(turning, plan), plan)
    run = jax.jit(lambda state, problem: train_rounds(
        Federation(turning), plan, ROUNDS, state, jnp.asarray(ROUNDS), problem
    ))  # fmt: skip
    ended, metrics = run(place(together.start(), plan), problem)
    np.testing.assert_array_equal(ended.params.keys, state.params.keys)
    assert metrics.examples.tolist() == [sum(SIZES)] * ROUNDS


def test_without_turning_another_result_comes_out(versions, make_local):
    each, together = versions
    local, everyone = make_local(4, 12, "sgd"), list(range(len(SIZES)))
    still, _ = each[0].train(local, [everyone] * 2)
    turning = local._replace(views=VIEWS)
    state, problem = together.start(), together.problem
    for _ in range(2):
        state, _ = together.round(turning, Plan("scan"))(state, everybody(len(SIZES)), problem)
    assert np.abs(state.params.keys - still.params.keys).max() > 1e-5


def test_clients_that_train_by_themselves_turn_too(versions, make_local):
    each, together = versions
    local, clients = make_local(4, 12), np.asarray([2, 1], np.int32)
    plain, turning = make_local_only(local, 1), make_local_only(local._replace(views=VIEWS), 1)
    expected = start_all(together.params, 2)
    for number in range(ROUNDS):
        problem = each[number % VIEWS].problem
        expected, _ = plain(expected, clients, np.int32(number), np.int32(1), problem)
    params = start_all(together.params, 2)
    params, _ = turning(params, clients, np.int32(0), np.int32(ROUNDS), together.problem)
    np.testing.assert_array_equal(params.keys, expected.keys)
