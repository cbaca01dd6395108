"""Rounds whose updates and params travel in fewer bytes, over ways to spread a cohort."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cachefl_jax import federation as engine
from cachefl_jax.compression import bfloat16, compressed, encoding_of, own_classes, quantize, top_k
from cachefl_jax.config import default
from cachefl_jax.federation import Federation, PartHyper, Plan, compile_run, init_server, place
from cachefl_jax.federation.primal.client import classes_held
from cachefl_jax.federation.work import Rows

pytestmark = pytest.mark.quick

SIZES, ROUNDS, CLASSES = [5, 9, 1, 12, 3, 7], 3, 5


@pytest.fixture
def setting(make_federation, make_local):
    return make_federation(SIZES), make_local(4, 12, optimizer="sgd", epochs=1)


def encoding(*codes):
    group = default().updates
    group.fraction, group.bits = 0.2, 8
    return encoding_of(tuple(each.code(group, "updates") for each in codes))


def run(federation: Federation, plan: Plan, ours, rounds: int = ROUNDS):
    hyper = PartHyper(((),) * len(federation.transforms), downloads=((),) * len(federation.downloads))
    problem = place(engine.prepare(federation, plan, ours.problem._replace(part_hyper=hyper)), plan)
    state = init_server(federation, ours.params, problem)
    compiled = compile_run(federation, plan, rounds, state, problem)
    state, metrics = compiled(place(state, plan), jnp.int32(rounds), problem)
    return jax.device_get((engine.unplaced(state, len(SIZES), plan), metrics))


def test_however_a_cohort_is_spread_it_sends_the_same(setting):
    ours, local = setting
    coded = compressed(encoding(top_k, quantize), feedback=True)
    federation = Federation(local, transforms=(coded,))
    found, expected = run(federation, Plan("chunk", 2, 4), ours)[0], run(federation, Plan("scan"), ours)[0]
    step = np.abs(expected.params.keys - ours.params.keys).max() / 127
    np.testing.assert_allclose(found.params.keys, expected.params.keys, rtol=0, atol=step)
    (kept,) = found.clients[1]
    assert kept.residual.keys.shape == (len(SIZES), *ours.params.keys.shape)
    up, down = engine.traffic(federation, ours.params, ours.problem)
    numbers = CLASSES * 3 * 8
    assert (up, down) == (4 + 24 + 24 * 7 // 8, 4 * numbers)


@pytest.mark.parametrize("plan", [Plan("scan"), Plan("chunk", 2)], ids=str)
def test_bytes_of_own_classes_are_measured(setting, plan):
    ours, local = setting
    federation = Federation(local, transforms=(compressed(encoding(own_classes, quantize)),))
    state, metrics = run(federation, plan, ours)
    labels, ends = np.asarray(ours.problem.data.labels), np.cumsum([0, *SIZES])
    held = [set(labels[first:after].tolist()) for first, after in itertools.pairwise(ends)]
    each = [1 + 3 * len(classes) * (4 + 8) for classes in held]
    np.testing.assert_array_equal(state.clients[1][0].sent, each)
    sent = metrics.sent[:, 0].astype(int) * 2**16 + metrics.sent[:, 1]
    np.testing.assert_array_equal(sent, [sum(each)] * ROUNDS)
    assert sum(each) < len(SIZES) * engine.traffic(federation, ours.params, ours.problem)[0]


def test_the_classes_of_rows_are_those_of_their_labels(make_federation):
    problem = make_federation([100, 130, 3], classes=40, scattered=True).problem
    labels, order = np.asarray(problem.data.labels), np.asarray(problem.clients.indices)
    for first, count in ((0, 100), (100, 130), (230, 3), (230, 0)):
        found = jax.jit(lambda rows: classes_held(problem, rows, 40))(Rows(jnp.int32(first), jnp.int32(count)))
        np.testing.assert_array_equal(np.flatnonzero(found), np.unique(labels[order[first : first + count]]))


def test_an_encoding_that_keeps_nothing_loses_less_than_a_step(setting):
    ours, local = setting
    federation = Federation(local, transforms=(compressed(encoding(quantize)),))
    found, plain = run(federation, Plan("scan"), ours, 1)[0], run(Federation(local), Plan("scan"), ours, 1)[0]
    assert found.clients == ()
    error = np.abs(found.params.keys - plain.params.keys).max()
    assert 0 < error < 0.05 * np.abs(plain.params.keys - ours.params.keys).max()


def test_params_that_travel_in_half_the_bytes(setting):
    ours, local = setting
    federation = Federation(local, downloads=(compressed(encoding(bfloat16), "downloads"),))
    found, _ = run(federation, Plan("scan"), ours)
    held = found.parts.downloads[0].keys
    assert 0 < np.abs(held - found.params.keys).max() < 1
    whole = engine.traffic(Federation(local), ours.params, ours.problem)
    assert engine.traffic(federation, ours.params, ours.problem) == (whole[0], whole[1] / 2)
    plain, _ = run(Federation(local), Plan("scan"), ours)
    np.testing.assert_allclose(found.params.keys, plain.params.keys, rtol=0, atol=1e-3)
