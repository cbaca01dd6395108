"""Rounds that follow a schedule: fewer steps and older params, against plain loops over batches; a run in pieces."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cachefl_jax import federation as engine
from cachefl_jax.federation import (
    Federation,
    Pace,
    Plan,
    Schedule,
    compile_run,
    fits_dual,
    init_server,
    place,
    scheduled,
)
from cachefl_jax.federation.participation import by_size
from cachefl_jax.federation.run import cohort_of

pytestmark = pytest.mark.quick

SIZES, BATCH, EPOCHS, RATE = [5, 9, 1, 12, 3, 7], 4, 2, 0.05
PLANS = [Plan("scan"), Plan("scan", 1, 2), Plan("chunk", 2)]
# In the order of their rows; client 4 takes part in the first round alone, and one place is then empty.
CLIENTS = np.array([[3, 1, 5, 4], [3, 1, 0, 0], [3, 1, 5, 0]], np.int32)
COUNTS = np.array([4, 3, 3], np.int32)
STEPS = np.array([[1, 6, 3, 2], [6, 2, 4, 0], [2, 6, 1, 0]], np.int32)
AGES = np.array([[0, 0, 0, 0], [1, 0, 1, 0], [2, 0, 1, 0]], np.int32)


def setting_of(make_federation, make_local, **more):
    """A federation on a schedule, and its problem."""
    ours, local = make_federation(SIZES), make_local(BATCH, 12, optimizer="sgd", epochs=EPOCHS, shuffle=False)
    hyper = ours.problem.hyper._replace(learning_rate=jnp.float32(RATE), weight_decay=jnp.float32(0))
    ours = ours._replace(problem=ours.problem._replace(hyper=hyper))
    return ours, Federation(local, participation=scheduled, cohort=4, **more)


def run(federation: Federation, plan: Plan, params, problem, pieces=(3,)):
    """The state on the host and the losses, after so many rounds in each call."""
    ready = place(engine.prepare(federation, plan, problem), plan)
    state, losses = init_server(federation, params, ready), []
    compiled = compile_run(federation, plan, max(pieces), state, ready)
    state = place(state, plan)
    for count in pieces:
        state, metrics = compiled(state, jnp.int32(count), ready)
        losses += np.asarray(metrics.train_loss)[:count].tolist()
    return jax.device_get(state), losses


def plain(local, ours, steps, ages, power=0.0):
    """(params, losses) after the rounds, one batch after another."""
    offsets, data = np.asarray(ours.problem.clients.offsets), ours.problem.data
    versions, losses = [ours.params], []

    @jax.jit
    def step(params, batch):
        value, gradient = jax.value_and_grad(lambda w: local.loss(w, ours.problem.frozen, batch).mean())(params)
        return value, jax.tree.map(lambda w, g: w - RATE * g, params, gradient)

    for number, count in enumerate(COUNTS):
        rows = np.array([SIZES[client] for client in CLIENTS[number, :count]])
        total, told = jax.tree.map(jnp.zeros_like, ours.params), 0.0
        for place_, client in enumerate(CLIENTS[number, :count]):
            begun = params = versions[number - ages[number, place_]]
            seen = lost = 0
            places = np.arange(offsets[client], offsets[client + 1])
            batches = [places[at : at + BATCH] for at in range(0, len(places), BATCH)] * EPOCHS
            for chosen in batches[: steps[number, place_]]:
                value, params = step(params, jax.tree.map(lambda leaf, at=chosen: leaf[at], data))
                seen, lost = seen + len(chosen), lost + float(value) * len(chosen)
            weight = rows[place_] / rows.sum()
            factor = weight * (1 + ages[number, place_]) ** -power
            total = jax.tree.map(lambda t, w, w0, f=factor: t + f * (w - w0), total, params, begun)
            told += weight * lost / seen
        versions.append(optax.apply_updates(versions[-1], total))
        losses.append(told)
    return versions[-1], losses


@pytest.fixture(scope="module")
def expected(make_federation, make_local):
    """What the plain loops make of each: (params, losses)."""
    ours, federation = setting_of(make_federation, make_local)
    whole, newest = np.full_like(STEPS, 99), np.zeros_like(AGES)
    return {
        "partial": plain(federation.local, ours, STEPS, newest),
        "old": plain(federation.local, ours, whole, AGES),
        "both": plain(federation.local, ours, STEPS, AGES, power=0.5),
        "plain": plain(federation.local, ours, whole, newest),
    }


def test_partial_work_is_training_of_fewer_steps(make_federation, make_local, expected):
    ours, federation = setting_of(make_federation, make_local, partial=True)
    problem = ours.problem._replace(schedule=Schedule(CLIENTS, COUNTS, Pace(steps=STEPS)))
    state, losses = run(federation, Plan("scan"), ours.params, problem)
    params, told = expected["partial"]
    np.testing.assert_allclose(state.params.keys, params.keys, rtol=0, atol=2e-6)
    np.testing.assert_allclose(losses, told, rtol=1e-5)
    assert np.abs(expected["plain"][0].keys - params.keys).max() > 1e-2  # fewer steps do matter here


def test_updates_count_from_where_they_began(make_federation, make_local, expected):
    """Three versions are kept; the third round reads the one before the oldest that two would hold."""
    ours, federation = setting_of(make_federation, make_local, versions=3)
    pace = Pace(ages=AGES, discounts=np.ones(AGES.shape, np.float32))
    state, _ = run(
        federation, Plan("scan"), ours.params, ours.problem._replace(schedule=Schedule(CLIENTS, COUNTS, pace))
    )
    params, _ = expected["old"]
    np.testing.assert_allclose(state.params.keys, params.keys, rtol=0, atol=2e-6)
    assert np.abs(expected["plain"][0].keys - params.keys).max() > 1e-3
    assert state.parts.versions.keys.shape == (3, *ours.params.keys.shape)


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_old_updates_of_fewer_steps_weigh_less(make_federation, make_local, expected, plan):
    """A run of three rounds, and the same in two calls, to the bit."""
    ours, federation = setting_of(make_federation, make_local, versions=3, partial=True)
    pace = Pace(STEPS, AGES, np.float32((1.0 + AGES) ** -0.5))
    problem = ours.problem._replace(schedule=Schedule(CLIENTS, COUNTS, pace))
    once, losses = run(federation, plan, ours.params, problem)
    twice, again = run(federation, plan, ours.params, problem, (2, 1))
    params, told = expected["both"]
    np.testing.assert_allclose(once.params.keys, params.keys, rtol=0, atol=2e-6)
    np.testing.assert_allclose(losses, told, rtol=1e-5)
    np.testing.assert_array_equal(once.params.keys, twice.params.keys)
    assert losses == again


@pytest.mark.parametrize("plan", [Plan("scan"), Plan("dual", 2, 1, 16)], ids=str)
def test_a_schedule_of_drawn_cohorts_is_the_drawn_run_to_the_bit(make_federation, make_local, plan):
    ours, local = make_federation(SIZES), make_local(BATCH, 12, optimizer="sgd", epochs=EPOCHS)
    drawn = Federation(local, cohort=4)
    orders = [by_size(cohort_of(drawn, ours.problem, jnp.int32(at)), ours.problem.clients)[0] for at in range(2)]
    schedule = Schedule(np.stack(orders), np.full(2, 4, np.int32))
    expected, losses = run(drawn, plan, ours.params, ours.problem, (2,))
    on_schedule = drawn._replace(participation=scheduled)
    state, found = run(on_schedule, plan, ours.params, ours.problem._replace(schedule=schedule), (2,))
    np.testing.assert_array_equal(state.params.keys, expected.params.keys)
    assert found == losses


def test_fednova_counts_the_steps_that_were_done(make_federation, make_local):
    """Of one client the mean normalised change times the mean length is its change: both are of the steps it did."""
    ours, federation = setting_of(make_federation, make_local, partial=True)
    nova = federation._replace(local=federation.local._replace(work=engine.fednova))
    only = Schedule(
        np.array([[3, 0, 0, 0]], np.int32), np.array([1], np.int32), Pace(steps=np.full((1, 4), 2, np.int32))
    )
    problem = ours.problem._replace(schedule=only)
    one, other = (run(each, Plan("scan"), ours.params, problem, (1,))[0].params.keys for each in (federation, nova))
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)  # of one client: |a| x (change / |a|)


def test_training_on_coefficients_takes_neither(make_federation, make_local):
    _, federation = setting_of(make_federation, make_local)
    assert fits_dual(federation)
    assert not fits_dual(federation._replace(partial=True))
    assert not fits_dual(federation._replace(versions=2))
