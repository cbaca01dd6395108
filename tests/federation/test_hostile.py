"""Hostile clients: who they are, and what each attack makes of rows and updates, against NumPy and against federations
whose rows were changed by hand."""

import statistics

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cachefl_jax import federation as engine
from cachefl_jax.federation import (
    Federation,
    Hostility,
    PartHyper,
    Plan,
    Received,
    Sender,
    compile_run,
    hostile_clients,
    init_server,
    place,
)
from cachefl_jax.federation import hostile as attacks
from cachefl_jax.federation.aggregation import Attackers, equal, median, uniform
from cachefl_jax.simulation.hostile import POISONS

pytestmark = pytest.mark.quick

SIZES, ROUNDS, CLASSES = [5, 9, 1, 12, 3, 7], 2, 5
DUAL, CHUNK = Plan("dual", 2, 1, 16), Plan("chunk", 2, 2)
TRIGGER = np.eye(8, dtype=np.float32)[3]


def told(share=1 / 3, strength=4.0, redrawn=0) -> Hostility:
    numbers = np.float32(share), np.float32(strength), np.int32(redrawn), np.int32(CLASSES), np.int32(2)
    return Hostility(*numbers, TRIGGER)


def drawn(ours, hostility, number=0) -> np.ndarray:
    """[C] who is hostile in that round."""
    return np.asarray(hostile_clients(ours.problem._replace(hostile=hostility), jnp.int32(number)))


@pytest.fixture
def setting(make_federation, make_local):
    return make_federation(SIZES), make_local(4, 12, optimizer="sgd", epochs=1)


def run(federation, plan, ours, rounds=ROUNDS):
    problem = place(engine.prepare(federation, plan, ours.problem), plan)
    state = init_server(federation, ours.params, problem)
    state, _ = compile_run(federation, plan, rounds, state, problem)(place(state, plan), jnp.int32(rounds), problem)
    return jax.device_get(engine.unplaced(state, len(SIZES), plan)).params.keys


def test_a_share_of_all_clients_is_hostile_by_the_runs_key(make_federation):
    ours = make_federation([1] * 40)
    same = [drawn(ours, told(0.2), number) for number in range(3)]
    assert [who.sum() for who in same] == [8] * 3
    assert (same[0] == same[1]).all()
    assert (same[0] == same[2]).all()
    others = [drawn(ours, told(0.2, redrawn=1), number) for number in range(200)]
    assert {int(who.sum()) for who in others} == {8}
    often = np.mean(others, axis=0)
    assert np.abs(often - 0.2).max() < 5 * np.sqrt(0.2 * 0.8 / 200)
    elsewhere = ours.changed(key=jax.random.key(8))
    assert (drawn(elsewhere, told(0.2)) != same[0]).any()
    assert not drawn(ours, told(0.0)).any()
    assert hostile_clients(ours.problem, jnp.int32(0)) is None


@pytest.mark.parametrize("hostile", [True, False])
def test_what_one_sends_by_itself(hostile):
    rng = np.random.default_rng(0)
    update = {"a": rng.normal(size=(4, 3)).astype(np.float32), "b": rng.normal(size=300).astype(np.float32)}
    who = Sender(jnp.int32(1), jnp.int32(0), jax.random.key(3), jnp.ones(()), jnp.float32(4), hostile=hostile)
    found = {name: attack.apply(update, (), who)[0] for name, attack in attacks.BY_ITSELF.items()}
    factors = {"sign_flip": -4, "scaled": 4, "free_rider": 0} if hostile else dict.fromkeys(found, 1)
    for name, factor in factors.items():
        np.testing.assert_array_equal(found[name]["a"], factor * update["a"])
        np.testing.assert_array_equal(found[name]["b"], factor * update["b"])
    if hostile:
        sent, own = (np.concatenate([tree["a"].ravel(), tree["b"]]) for tree in (found["gaussian"], update))
        np.testing.assert_allclose(np.linalg.norm(sent), 4 * np.linalg.norm(own), rtol=1e-5)
        scaled = sent / sent.std()
        assert abs(scaled.mean()) < 4 / np.sqrt(len(sent))
        assert abs(scaled @ own / np.linalg.norm(scaled) / np.linalg.norm(own)) < 0.25
        assert 2 < np.mean(scaled**4) < 4  # 3 of a normal distribution


@pytest.mark.parametrize("kind", ["inner_product", "alie"])
def test_what_they_make_together(kind):
    rng = np.random.default_rng(1)
    updates = rng.normal(size=(10, 3, 2)).astype(np.float32)
    hostile, present = np.isin(np.arange(10), [1, 6, 9]), np.arange(10) < 9
    updates[~present] = 0
    honest = updates[present & ~hostile].astype(np.float64)

    def found(strength):
        received = Received(equal(present, present), jnp.asarray(present), (), jnp.arange(10),
                            hostile=Attackers(jnp.asarray(hostile), jnp.float32(strength)))  # fmt: skip
        return np.asarray(attacks.crafted(attacks.TOGETHER[kind], jnp.asarray(updates), received))

    middle, spread = honest.mean(axis=0), honest.std(axis=0)
    # 9 clients, 2 of them hostile: 5 are most of them, for which 3 of the 7 honest ones must lie farther out.
    usual = statistics.NormalDist().inv_cdf((7 - (9 // 2 + 1 - 2)) / 7)
    for strength, due in ((1.5, middle - 1.5 * spread), (0, middle - usual * spread)):
        due = -strength * middle if kind == "inner_product" else due
        changed = found(strength)
        for client in (1, 6):
            np.testing.assert_allclose(changed[client], due, rtol=1e-5, atol=1e-6)
        others = np.delete(np.arange(10), [1, 6])
        np.testing.assert_array_equal(changed[others], updates[others])


@pytest.mark.parametrize("plan", [CHUNK, DUAL], ids=str)
def test_a_round_with_flipped_signs_is_the_mean_with_negative_weights(setting, plan):
    """One round from the same params: the change is the sum of the honest changes less 4 times the hostile ones'."""
    ours, local = setting
    hostile = drawn(ours, told())
    assert hostile.sum() == 2
    attacked = ours.changed(hostile=told(), part_hyper=PartHyper((jnp.float32(4),)))
    found = run(Federation(local, transforms=(attacks.BY_ITSELF["sign_flip"],), aggregation=uniform), plan, attacked, 1)
    signs = np.where(hostile, -4, 1)

    def weigh(counts, present):
        """By size: these clients have all different ones."""
        order = np.argsort(SIZES)[::-1]
        return jnp.where(present, jnp.asarray(signs[order], jnp.float32), 0) / len(SIZES)

    due = run(Federation(local, aggregation=engine.Aggregation(weigh=weigh)), Plan("scan"), ours, 1)
    np.testing.assert_allclose(found, due, rtol=0, atol=1e-6)
    assert np.abs(due - ours.params.keys).max() > 1e-3


def test_updates_made_together_reach_whatever_aggregates(setting):
    """By plans alike, and other than without them."""
    (ours, local), rule = setting, median
    attacked = ours.changed(hostile=told())
    federation = Federation(local, aggregation=engine.under_attack(rule, attacks.against_the_mean))
    assert not engine.fits_dual(federation)
    found = run(federation, Plan("scan"), attacked)
    np.testing.assert_allclose(run(federation, CHUNK, attacked), found, rtol=0, atol=1e-6)
    assert np.abs(run(Federation(local, aggregation=rule), Plan("scan"), ours) - found).max() > 1e-4


def rows_of(ours, client: int) -> slice:
    return slice(*np.asarray(ours.problem.clients.offsets)[client : client + 2].tolist())


@pytest.mark.parametrize("plan", [Plan("scan"), DUAL], ids=str)
def test_flipped_labels_are_rows_with_other_labels(setting, plan):
    ours, local = setting
    labels = np.array(ours.problem.data.labels)
    for client in np.flatnonzero(drawn(ours, told())):
        labels[rows_of(ours, client)] = CLASSES - 1 - labels[rows_of(ours, client)]
    due = run(Federation(local), plan, ours.changed(data=ours.problem.data._replace(labels=jnp.asarray(labels))))
    federation = Federation(local._replace(poison=POISONS["label_flip"]))
    np.testing.assert_allclose(run(federation, plan, ours.changed(hostile=told())), due, rtol=0, atol=1e-6)
    assert np.abs(run(Federation(local), plan, ours) - due).max() > 1e-3


def test_a_backdoor_is_every_second_row_with_a_trigger_and_the_targets_label(make_federation, make_local):
    """In one batch, in order, so that it is known which rows these are."""
    plan = CHUNK
    ours, local = make_federation(SIZES), make_local(12, 12, optimizer="sgd", epochs=1, shuffle=False)
    labels, features = np.array(ours.problem.data.labels), np.array(ours.problem.data.features)
    for client in np.flatnonzero(drawn(ours, told())):
        own = rows_of(ours, client)
        labels[own][::2] = 2
        moved = features[own][::2].astype(np.float64) + 4 * TRIGGER
        features[own][::2] = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    rows = ours.problem.data._replace(labels=jnp.asarray(labels), features=jnp.asarray(features))
    due = run(Federation(local), plan, ours.changed(data=rows))
    federation = Federation(local._replace(poison=POISONS["backdoor"]))
    assert not engine.fits_dual(federation)
    np.testing.assert_allclose(run(federation, plan, ours.changed(hostile=told())), due, rtol=0, atol=1e-6)
    assert np.abs(run(Federation(local), plan, ours) - due).max() > 1e-3
