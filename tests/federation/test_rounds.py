"""Many rounds as one program: cut anywhere it is the same run, and its memory does not grow with the clients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cachefl_jax.federation import (
    CLIENT_OPTIMIZERS,
    SERVER_OPTIMIZERS,
    Federation,
    LocalTraining,
    Plan,
    add_gram,
    compile_run,
    draw_cohort,
    in_client_order,
    init_server,
    make_round,
    place,
    plan_batches,
    prepare,
)
from cachefl_jax.federation.memory import Footprint, footprint, free, needed
from cachefl_jax.federation.run import COHORT

pytestmark = pytest.mark.quick
SIZES = [1, 7, 12, 3, 9, 12, 0, 5]
ANY = LocalTraining(None, CLIENT_OPTIMIZERS["sgd"], 1, 1, 1)  # a start does not depend on it
SERVER = SERVER_OPTIMIZERS["momentum"]
SCAN, DUAL_ON_2 = Plan("scan"), Plan("dual", 2, 2, 40)
PLANS = [SCAN, Plan("chunk", 3), Plan("dual", 3, 1, 40), Plan("scan", 1, 4), DUAL_ON_2]


@pytest.fixture
def federation(make_federation):
    federation = make_federation(SIZES)
    return federation.changed(server=federation.problem.server._replace(momentum=jnp.float32(0.5)))


@pytest.fixture
def local(make_local):
    return make_local(*plan_batches(4, max(SIZES)), optimizer="sgd")


def start(federation, problem=None):
    return init_server(Federation(ANY, SERVER), federation.params, problem or federation.problem)


@pytest.mark.parametrize("cohort", [0, 3])
@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_a_run_cut_anywhere_is_the_same_run_to_the_bit(federation, local, plan, cohort):
    ready = add_gram(Federation(local), plan, place(federation.problem, plan))
    run = compile_run(Federation(local, SERVER, cohort=cohort), plan, 5, start(federation), ready)
    ends, losses = [], []
    for pieces in ([5], [2, 3], [1, 1, 1, 1, 1]):
        state, told = place(start(federation), plan), []
        for count in pieces:
            state, metrics = run(state, np.int32(count), ready)
            told += np.asarray(metrics.train_loss)[:count].tolist()
        assert int(state.round) == 5
        ends.append(np.asarray(state.params.keys))
        losses.append(told)
    assert np.abs(ends[0] - np.asarray(federation.params.keys)).max() > 1e-3
    assert (ends[0] == ends[1]).all()
    assert (ends[0] == ends[2]).all()
    assert losses[0] == losses[1] == losses[2]
    assert min(losses[0]) > 0


def test_its_rounds_are_those_of_make_round_with_the_cohorts_that_the_key_draws(federation, local):
    plan, problem = Plan("chunk", 3), federation.problem
    run = compile_run(Federation(local, SERVER, cohort=3), plan, 4, start(federation), problem)
    state, metrics = run(start(federation), np.int32(4), problem)
    one_round, by_hand = make_round(Federation(local, SERVER), plan), start(federation)
    for number in range(4):
        key = jax.random.fold_in(jax.random.fold_in(problem.key, number), COHORT)
        by_hand, alone = one_round(by_hand, draw_cohort(key, len(SIZES), 3), problem)
        assert int(metrics.examples[number]) == int(alone.examples)
    np.testing.assert_allclose(state.params.keys, by_hand.params.keys, rtol=0, atol=1e-6)


def test_the_states_buffers_are_given_away(federation, local):
    state, problem = start(federation), federation.problem
    run = compile_run(Federation(local, SERVER), Plan("scan"), 2, state, problem)
    run(state, np.int32(2), problem)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize("plan", [Plan("scan"), Plan("chunk", 8), Plan("dual", 8, 1, 64)], ids=str)
def test_memory_beyond_the_data_is_flat_in_the_number_of_clients(make_federation, local, plan):
    """From 100 to 10,000 clients, read off the compiled programs: nothing is allocated."""

    def temporaries(clients: int) -> int:
        federation = make_federation([2] * clients)
        problem = jax.eval_shape(functools.partial(prepare, Federation(local), plan), federation.problem)
        state = jax.eval_shape(functools.partial(start, federation), problem)
        needs = footprint(compile_run(Federation(local, SERVER), plan, 1, state, problem), state, problem)
        assert needs.total == sum(needs)
        # Who takes part is a number or two a client: indices, not keys.
        return needs.temporaries - 64 * clients

    assert temporaries(10_000) <= 1.2 * max(temporaries(100), 2**16)


def test_a_stacked_pytree_is_told_before_it_is_allocated(make_federation, local):
    clients, federation = 200_000, make_federation([1] * 4)
    problem = jax.eval_shape(lambda: federation.problem)
    many = jax.ShapeDtypeStruct((clients + 1,), jnp.int32)
    problem = problem._replace(clients=problem.clients._replace(offsets=many))
    state = jax.eval_shape(functools.partial(start, federation), problem)
    compiled = compile_run(Federation(local, SERVER), Plan("vmap", clients), 1, state, problem)
    assert footprint(compiled, state, problem).temporaries > clients * federation.params.keys.nbytes


@pytest.mark.parametrize("plan", [SCAN, DUAL_ON_2], ids=str)
def test_rows_laid_out_client_after_client_change_no_bit(federation, local, plan):
    clients, data = federation.problem.clients, jax.tree.map(np.asarray, federation.problem.data)
    scattered = np.random.default_rng(0).permutation(len(data.labels)).astype(np.int32)
    clients = clients._replace(indices=scattered)
    ordered = in_client_order(clients, data)
    assert (np.diff(ordered[0].indices) == 1).all()
    np.testing.assert_array_equal(ordered[1].features, data.features[scattered])
    ends = []
    for clients_, data_ in ((clients, data), ordered):
        problem = federation.problem._replace(clients=clients_, data=data_)
        problem, state = add_gram(Federation(local), plan, place(problem, plan)), place(start(federation), plan)
        state, _ = compile_run(Federation(local, SERVER), plan, 3, state, problem)(state, np.int32(3), problem)
        ends.append(np.asarray(state.params.keys))
    assert (ends[0] == ends[1]).all()
    assert np.abs(ends[0] - np.asarray(federation.params.keys)).max() > 1e-3
    again, fewer = in_client_order(*ordered), clients._replace(indices=scattered[1:])
    assert again[1] is ordered[1]
    assert in_client_order(fewer, data)[1] is data


def test_cpu_devices_need_what_none_of_them_writes_only_once():
    need = Footprint(data=1000, gram=500, params=30, optimizer_state=20, temporaries=10)
    assert needed(Plan(), need) == need.total == 1560
    assert needed(Plan(devices=4), need) == 1500 + 4 * 60
    assert needed(Plan(devices=4), need._replace(clients=800)) == 1500 + 4 * 60 + 800
    assert 2**24 < free() < 2**46


def test_cpu_devices_read_the_same_memory_and_give_none_of_it_away(federation, local):
    plan = DUAL_ON_2
    problem = add_gram(Federation(local), plan, place(federation.problem, plan))
    features = np.array(problem.data.features)
    for leaf in (problem.data.features, problem.clients.indices, problem.gram):
        assert len({shard.data.unsafe_buffer_pointer() for shard in leaf.addressable_shards}) == 1
    state = place(start(federation), plan)
    keys = np.array(state.params.keys)
    given = np.asarray(state.params.keys)
    run = compile_run(Federation(local, SERVER), plan, 2, state, problem)
    after, _ = run(state, np.int32(2), problem)
    assert np.abs(np.asarray(after.params.keys) - keys).max() > 1e-4
    np.testing.assert_array_equal(given, keys)
    np.testing.assert_array_equal(problem.data.features, features)
