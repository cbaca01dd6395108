"""The seams of a round: what a user's own transform, aggregation, algorithm or participation may do, over all ways to
spread a cohort."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cachefl_jax import federation as engine
from cachefl_jax.federation import Aggregation, ClientWork, Federation, Plan, Transform, compile_run, init_server, place
from cachefl_jax.federation.dual.gram import capacity_of
from cachefl_jax.federation.participation import poisson

pytestmark = pytest.mark.quick

SIZES, ROUNDS, COHORT = [5, 9, 1, 12, 3, 7], 6, 3
PLANS = [Plan("scan", 1, 4), Plan("chunk", 2), Plan("chunk", 2, 4)]


@pytest.fixture
def setting(make_federation, make_local):
    return make_federation(SIZES), make_local(4, 12, optimizer="sgd", epochs=1)


def run(federation: Federation, plan: Plan, setting, rounds: int = ROUNDS, params=None):
    """(the state after so many rounds as a checkpoint holds it, their metrics)."""
    ours = setting[0]
    problem = place(engine.prepare(federation, plan, ours.problem), plan)
    state = init_server(federation, ours.params if params is None else params, problem)
    compiled = compile_run(federation, plan, rounds, state, problem)
    state, metrics = compiled(place(state, plan), jnp.int32(rounds), problem)
    return jax.device_get((engine.unplaced(state, len(SIZES), plan), metrics))


def cohorts(federation: Federation, clients: int = len(SIZES)) -> list[set[int]]:
    """Who took part in each round, drawn as a run draws."""
    drawn = []
    for number in range(ROUNDS):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(7), number), engine.run.COHORT)
        cohort = federation.participation.draw(key, clients, federation.cohort)
        drawn.append(set(np.asarray(cohort.clients)[: int(cohort.size)].tolist()))
    return drawn


def count_rounds(update, state, sender):
    return update, {"rounds": state["rounds"] + 1, "last": sender.round, "who": sender.client}


counting = Transform(count_rounds, lambda update: {"rounds": jnp.int32(0), "last": jnp.int32(-1), "who": jnp.int32(-1)})


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_what_a_client_keeps_is_its_own_and_is_touched_only_when_it_takes_part(setting, plan):
    federation = Federation(setting[1], cohort=COHORT, transforms=(counting,))
    state, _ = run(federation, plan, setting)
    taken = cohorts(federation)
    _, (kept,) = state.clients
    for client in range(len(SIZES)):
        rounds = [number for number, cohort in enumerate(taken) if client in cohort]
        assert kept["rounds"][client] == len(rounds)
        assert kept["last"][client] == (rounds[-1] if rounds else -1)
        assert kept["who"][client] == (client if rounds else -1)


def test_nobody_keeps_anything_where_no_part_asks(setting):
    state, _ = run(Federation(setting[1]), Plan("scan"), setting, 1)
    assert state.clients == ()
    assert state.shared == ()


largest = Aggregation(
    zero=lambda update: jax.tree.map(lambda leaf: jnp.full_like(leaf, -jnp.inf), update),
    add=lambda total, update, weight: jax.tree.map(jnp.maximum, total, update),
    merge=lambda one, other: jax.tree.map(jnp.maximum, one, other),
    finish=lambda total, received: jax.tree.map(lambda leaf: 2 * leaf, total),
)
also_largest = engine.collect(
    lambda leaf, received: 2 * jnp.where(received.present.reshape(-1, 1, 1, 1), leaf, -jnp.inf).max(axis=0)
)


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_a_fold_of_ones_own_is_what_all_updates_at_once_give(setting, plan):
    """The largest of each number, folded client by client, against the updates side by side."""
    folded, _ = run(Federation(setting[1], cohort=COHORT, aggregation=largest), plan, setting, 2)
    collected, _ = run(Federation(setting[1], cohort=COHORT, aggregation=also_largest), Plan("scan"), setting, 2)
    np.testing.assert_allclose(folded.params.keys, collected.params.keys, rtol=0, atol=1e-6)
    assert np.abs(folded.params.keys - setting[0].params.keys).max() > 1e-3


def shifted(update, sender):
    """Adds the sender's number: tells whose update stands where."""
    return jax.tree.map(lambda leaf: 0 * leaf + sender.client, update)


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_collected_updates_and_weights_belong_together(setting, plan):
    """sum w_c c over the collected updates, with each client's own weight."""

    def weigh(counts, present):
        return jnp.where(present, counts, 0).astype(jnp.float32)

    def total(updates, received):
        return jax.tree.map(lambda leaf: jnp.tensordot(received.weights, leaf, axes=1), updates)

    aggregation = Aggregation(weigh=weigh, collect=total)
    federation = Federation(setting[1], transforms=(engine.stateless(shifted),), aggregation=aggregation)
    state, _ = run(federation, plan, setting, 1)
    expected = sum(client * size for client, size in enumerate(SIZES))
    np.testing.assert_allclose(state.params.keys - setting[0].params.keys, expected, rtol=1e-6)


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum"])
def test_clipping_and_drift_are_exact_on_coefficients(make_federation, make_local, optimizer, devices):
    """Client 3 has more rows than features, and trains on the params themselves."""
    ours = make_federation(SIZES)
    hyper = ours.problem.hyper._replace(learning_rate=jnp.float32(0.05), proximal=jnp.float32(0.1))
    ours = ours.changed(hyper=hyper, part_hyper=engine.PartHyper((jnp.float32(0.05),)))
    local = make_local(4, 12, optimizer=optimizer, proximal=True)
    from cachefl_jax.federation.transforms import clip

    federation = Federation(local, transforms=(clip,), drift=True)
    assert capacity_of(local, 8) < max(SIZES)
    expected, told = run(federation, Plan("scan"), (ours, local), 3)
    found, ours_told = run(federation, Plan("dual", 2, devices, 16), (ours, local), 3)
    free, _ = run(
        Federation(local),
        Plan("scan"),
        (ours._replace(problem=ours.problem._replace(part_hyper=engine.PartHyper())), local),
        3,
    )
    np.testing.assert_allclose(found.params.keys, expected.params.keys, rtol=0, atol=1e-5)
    assert np.abs(free.params.keys - expected.params.keys).max() > 1e-3  # it clips
    for one, other in zip(told.drift, ours_told.drift, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4)


def counts_and_sums(start, rows, valid):
    """What a client knows of each class: how many rows, and the sum of their features."""
    member = jax.nn.one_hot(rows.labels, 5) * valid[:, None]
    return {"count": member.sum(axis=0), "sum": member.T @ rows.features}


def means(aggregate, start, share):
    """The params become the class means, once for every key."""
    mean = aggregate["sum"] / jnp.maximum(aggregate["count"], 1)[:, None]
    return jax.tree.map(lambda keys: jnp.broadcast_to(mean[:, None], keys.shape) - keys, start.params), start.shared


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_a_closed_form_in_one_round_does_not_depend_on_who_holds_what(setting, plan):
    ours, local = setting
    local = local._replace(work=ClientWork(statistics=counts_and_sums, apply=means))
    from cachefl_jax.federation.aggregation import sum as added

    federation = Federation(local, aggregation=added)
    state, _ = run(federation, plan, (ours, local), 1)
    rows = jax.device_get(ours.problem.data)
    expected = np.stack([rows.features[rows.labels == label].astype(np.float64).mean(axis=0) for label in range(5)])
    np.testing.assert_allclose(state.params.keys, np.repeat(expected[:, None], 3, axis=1), atol=1e-6)
    up, down = engine.traffic(federation, ours.params, ours.problem)
    assert (up, down) == (4 * (5 + 5 * 8), 4 * 5 * 3 * 8)


def test_poissons_cohorts_have_the_sizes_and_members_that_they_should():
    clients, size, draws = 40, 10, 4000
    drawn = jax.vmap(lambda key: poisson.draw(key, clients, size))(jax.random.split(jax.random.key(0), draws))
    sizes = np.asarray(drawn.size)
    assert abs(sizes.mean() - size) < 4 * np.sqrt(size * 0.75 / draws)
    assert abs(sizes.var() / (clients * 0.25 * 0.75) - 1) < 0.1
    taken = np.zeros(clients)
    for members, count in zip(np.asarray(drawn.clients), sizes, strict=True):
        assert len(set(members[:count])) == count
        taken[members[:count]] += 1
    assert np.abs(taken / draws - 0.25).max() < 5 * np.sqrt(0.25 * 0.75 / draws)


def test_a_round_that_nobody_joins_changes_nothing(setting):
    nobody = poisson._replace(draw=lambda key, clients, size: engine.Cohort(jnp.arange(clients), jnp.int32(0)))
    federation = Federation(setting[1], participation=nobody, cohort=2)
    state, metrics = run(federation, Plan("chunk", 2), setting, 2)
    np.testing.assert_array_equal(state.params.keys, setting[0].params.keys)
    assert metrics.clients.tolist() == [0, 0]


def test_traffic_is_what_the_parts_say(setting):
    ours, local = setting
    plain = 4 * 5 * 3 * 8
    halved = engine.stateless(lambda update, sender: jax.tree.map(lambda leaf: leaf.astype(jnp.float16), update))
    tenth = engine.stateless(lambda update, sender: update, size=lambda size: size / 10)
    of = functools.partial(
        engine.traffic, params=ours.params, problem=ours.problem._replace(part_hyper=engine.PartHyper(((), ())))
    )
    assert of(Federation(local)) == (plain, plain)
    assert of(Federation(local._replace(work=engine.scaffold))) == (2 * plain, 2 * plain)
    assert of(Federation(local._replace(work=engine.fednova))) == (plain + 4, plain)
    assert of(Federation(local, transforms=(halved,))) == (plain // 2, plain)
    assert of(Federation(local, transforms=(tenth, halved))) == (plain // 20, plain)
    doubled = engine.Aggregation(size=lambda size: 2 * size + 32)
    assert of(Federation(local, aggregation=doubled)) == (2 * plain + 32, plain)


def test_a_first_state_of_clients_that_no_device_count_divides_is_dealt_by_the_round(setting):
    """6 clients on 4 devices, as `init_server` leaves them."""
    federation = Federation(setting[1], transforms=(counting,))
    one_round = engine.make_round(federation, Plan("scan", 1, 4))
    state = init_server(federation, setting[0].params, setting[0].problem)
    for number in (1, 2):
        state, _ = one_round(state, engine.everybody(len(SIZES)), setting[0].problem)
        assert state.clients[1][0]["rounds"][: len(SIZES)].tolist() == [number] * len(SIZES)
