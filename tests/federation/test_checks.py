"""What compiled code cannot refuse: wrong rows are refused before it runs, numbers not finite are told after it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cachefl_jax.federation import (
    Clients,
    Federation,
    Plan,
    Point,
    compile_run,
    figures,
    make_round,
    make_sweep,
    place,
    score_rows,
    stack,
)
from cachefl_jax.methods.cachefl import Cache, cachefl

pytestmark = pytest.mark.quick

SIZES, SCAN = [3, 9, 1], Plan("scan")
TOO_MANY = r"client 1 has 9 rows; LocalTraining.capacity is 8"


@pytest.fixture(scope="module")
def federation(make_federation):
    return make_federation(SIZES)


@pytest.fixture(scope="module")
def small(make_local):
    """Room for 8 rows, where a client has 9."""
    return make_local(4, 8, "sgd")


def test_a_round_refuses_a_client_of_more_rows_than_capacity(federation, small):
    one_round = make_round(Federation(small), SCAN)
    with pytest.raises(ValueError, match=TOO_MANY):
        one_round(federation.start(), federation.cohort([0, 1]), federation.problem)


def test_a_run_refuses_it_when_it_is_compiled_or_where_only_shapes_were_given_when_it_is_called(federation, small):
    state, problem = federation.start(), federation.problem
    with pytest.raises(ValueError, match=TOO_MANY):
        compile_run(Federation(small), SCAN, 1, state, problem)
    run = compile_run(Federation(small), SCAN, 1, *jax.eval_shape(lambda: (state, problem)))
    with pytest.raises(ValueError, match=TOO_MANY):
        run(state, np.int32(1), problem)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize("devices", [1, 2])
def test_a_sweep_refuses_it_in_any_point(federation, small, devices):
    fitting = federation.problem.clients._replace(offsets=jnp.asarray([0, 5, 10, 13], jnp.int32))
    problems = federation.problem._replace(clients=fitting), federation.problem
    points = [Point(federation.params, problem, np.int32(1), np.int32(1)) for problem in problems]
    sweep = make_sweep(Federation(small), SCAN, lambda *_: (), 1, devices=devices)
    with pytest.raises(ValueError, match=TOO_MANY):
        sweep(*stack(points), ())


def test_rows_that_are_not_there_are_refused(federation, make_local):
    local, clients = make_local(4, 12), federation.problem.clients
    for wrong, told in (
        (clients._replace(indices=clients.indices.at[0].set(13)), r"indices go from 1 to 13; .* rows 0 to 12"),
        (clients._replace(indices=clients.indices.at[0].set(-1)), r"indices go from -1 to 12"),
        (clients._replace(offsets=clients.offsets.at[-1].set(14)), r"offsets must ascend from 0 to at most 13"),
        (clients._replace(offsets=jnp.asarray([0, 12, 3, 13], jnp.int32)), r"offsets must ascend"),
    ):
        problem = federation.problem._replace(clients=wrong)
        with pytest.raises(ValueError, match=told):
            compile_run(Federation(local), SCAN, 1, federation.start(), problem)


def test_the_same_clients_are_read_back_once_and_others_anew(federation, make_local, monkeypatch):
    from cachefl_jax.federation import checks

    read, real = [], checks.check_clients
    monkeypatch.setattr(checks, "check_clients", lambda *arguments: (read.append(None), real(*arguments)))
    check, problem = checks.ClientCheck(make_local(4, 12)), federation.problem
    for _ in range(3):
        check(problem.clients, problem.data)
    assert len(read) == 1
    check(Clients(*map(jnp.array, problem.clients)), problem.data)
    assert len(read) == 2
    host = Clients(*map(np.asarray, problem.clients))  # may be changed in place
    for _ in range(2):
        check(host, problem.data)
    assert len(read) == 4


@pytest.mark.parametrize("plan", [SCAN, Plan("chunk", 2, devices=2), Plan("dual", 2, 1, 16)], ids=str)
def test_params_that_the_last_step_of_all_has_spoilt_are_told(federation, make_local, plan):
    """One full batch, one round: the loss is taken before the only step, and is fine."""
    local = make_local(12, 12, "sgd", epochs=1)
    problem = place(federation.prepared(local, plan), plan)
    run = compile_run(Federation(local), plan, 2, federation.start(), problem)
    for rate, finite in ((0.1, True), (np.inf, False)):
        hyper = problem.hyper._replace(learning_rate=place(jnp.float32(rate), plan))
        _, metrics = run(place(federation.start(), plan), np.int32(1), problem._replace(hyper=hyper))
        assert np.isfinite(metrics.train_loss[0])
        assert metrics.finite == finite


def test_a_single_round_tells_it_too(federation, make_local):
    local = make_local(12, 12, "sgd", epochs=1)
    for rate, finite in ((0.1, True), (np.inf, False)):
        changed = federation.changed(hyper=federation.problem.hyper._replace(learning_rate=jnp.float32(rate)))
        assert changed.train(local, [[0, 1, 2]])[1].finite == finite


def test_finite_params_whose_logits_are_not_answer_nothing(federation):
    frozen, rows = federation.problem.frozen, federation.problem.data
    keys = federation.params.keys
    score = functools.partial(score_rows, cachefl.logits, False)
    assert figures(score(federation.params, frozen, rows)).accuracy >= 0
    # Affinities overflow on the row that lies along this key alone.
    spoilt = Cache(keys.at[0, 0].set(1e30 * rows.features[3]))
    assert all(np.isnan(figure).all() for figure in figures(score(spoilt, frozen, rows)))
