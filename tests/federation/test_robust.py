"""Aggregations for rounds with hostile clients: each against the paper's formula in NumPy's float64, whatever the order
of the clients and whoever stays away."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cachefl_jax import federation as engine
from cachefl_jax.federation import Federation, PartHyper, Plan, Received, compile_run, init_server, place
from cachefl_jax.federation import robust as rules
from cachefl_jax.federation.aggregation import equal, mean

pytestmark = pytest.mark.quick

HOSTILE, RADIUS, CLIENTS = 0.2, 1.5, 14
HYPER = {"krum": HOSTILE, "multi_krum": HOSTILE, "centred_clipping": RADIUS}
NAMES = ("krum", "multi_krum", "geometric_median", "centred_clipping", "fools_gold", "fl_trust")
ROOT = np.linspace(-1, 1, 6).astype(np.float32)


def squares_between(rows):
    return np.square(rows[:, None] - rows[None]).sum(axis=2)


def krum_order(rows):
    """The clients, the lowest score first."""
    count, hostile = len(rows), int(HOSTILE * len(rows) + 1e-9)
    scores = [np.sort(np.delete(row, place))[: count - hostile - 2].sum() for place, row in
              enumerate(squares_between(rows))]  # fmt: skip
    return np.argsort(scores), hostile


def krum(rows, state):
    return rows[krum_order(rows)[0][0]]


def multi_krum(rows, state):
    order, hostile = krum_order(rows)
    return rows[order[: len(rows) - hostile]].mean(axis=0)


def geometric_median(rows, state):
    """By Newton steps with halving on the sum of distances: no Weiszfeld."""
    point = np.median(rows, axis=0)
    total = lambda point: np.linalg.norm(rows - point, axis=1).sum()  # noqa: E731
    for _ in range(100):
        moves = point - rows
        lengths = np.linalg.norm(moves, axis=1)
        unit = moves / lengths[:, None]
        hessian = (np.eye(rows.shape[1])[None] - unit[:, :, None] * unit[:, None]) / lengths[:, None, None]
        step, rate = np.linalg.solve(hessian.sum(axis=0), unit.sum(axis=0)), 1.0
        while total(point - rate * step) > total(point) and rate > 1e-9:
            rate /= 2
        point = point - rate * step
    return point


def centred_clipping(rows, state):
    centre = state
    for _ in range(3):
        moves = rows - centre
        factors = np.minimum(1, RADIUS / np.linalg.norm(moves, axis=1))
        centre = centre + (factors[:, None] * moves).mean(axis=0)
    return centre


def fools_gold(rows, state):
    """As Algorithm 1 writes it, pair by pair."""
    history, count = state + rows, len(rows)
    alike, most = np.zeros((count, count)), np.zeros(count)
    for i in range(count):
        for j in range(count):
            if i != j:
                alike[i, j] = history[i] @ history[j] / np.linalg.norm(history[i]) / np.linalg.norm(history[j])
        most[i] = max(alike[i].max(), 0)
    for i in range(count):
        for j in range(count):
            if most[i] < most[j]:
                alike[i, j] *= most[i] / most[j]
    trust = np.clip([1 - max(row.max(), 0) for row in alike], 0, 1)
    trust = np.minimum(trust / trust.max(), 0.99)
    with np.errstate(divide="ignore"):
        trust = np.clip(np.log(trust / (1 - trust)) + 0.5, 0, 1)
    return (trust[:, None] * rows).sum(axis=0) / trust.sum()


def fl_trust(rows, state):
    root = ROOT.astype(np.float64)
    lengths, length = np.linalg.norm(rows, axis=1), np.linalg.norm(root)
    trust = np.maximum(rows @ root / lengths / length, 0)
    assert 0 < (trust == 0).sum() < len(rows) - 1 or len(rows) == 1
    return sum(each * row * length / own for each, row, own in zip(trust, rows, lengths, strict=True)) / trust.sum()


REFERENCES = {
    "krum": krum, "multi_krum": multi_krum, "geometric_median": geometric_median,
    "centred_clipping": centred_clipping, "fools_gold": fools_gold, "fl_trust": fl_trust,
}  # fmt: skip


@pytest.fixture
def cohort():
    """(updates [M, P], histories or the last aggregate of each rule): 12 clients around a mean, two far away that point
    the same way."""
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(CLIENTS, 6)) + np.linspace(0, 1, 6)
    rows[[4, 9]] = [8.0, -9, 7, 0, 0, 5] + 0.1 * rng.normal(size=(2, 6))
    return rows.astype(np.float32), rng.normal(size=(CLIENTS, 6)).astype(np.float32)


def aggregate(name, rows, state, present=None, clients=None):
    """By the rule, with updates of two leaves."""
    rule, count = getattr(rules, name), len(rows)
    present = np.ones(count, bool) if present is None else present

    def split(rows):
        rows = jnp.asarray(rows)
        return {"a": rows[..., :2], "b": rows[..., 2:].reshape(*rows.shape[:-1], 2, 2)}

    kept = {"centred_clipping": lambda: split(state[0]), "fools_gold": lambda: split(state)}.get(name, tuple)()
    clients = jnp.arange(count) if clients is None else jnp.asarray(clients)
    received = Received(equal(jnp.asarray(present), jnp.asarray(present)), jnp.asarray(present),
                        jnp.float32(HYPER.get(name, 0)), clients, None, kept, root=split(ROOT))  # fmt: skip
    updates = split(np.where(present[:, None], rows, 0))
    found = jax.jit(rule.collect)(updates, received)
    kept = rule.keep(updates, found, received) if rule.keep else ()
    join = lambda tree: np.concatenate([tree["a"], np.reshape(tree["b"], (*tree["a"].shape[:-1], 4))], axis=-1)  # noqa: E731
    return join(found), join(kept) if kept else None


def expected(name, rows, state):
    rows = rows.astype(np.float64)
    return REFERENCES[name](rows, state[0] if name == "centred_clipping" else state)


@pytest.mark.parametrize("name", NAMES)
def test_a_rule_is_its_papers_formula_in_any_order_and_without_those_who_are_absent(cohort, name):
    rows, state = cohort
    due = expected(name, rows, state.astype(np.float64))
    found, kept = aggregate(name, rows, state)
    np.testing.assert_allclose(found, due, rtol=2e-5, atol=2e-5)
    order = np.random.default_rng(0).permutation(CLIENTS)
    own = state if name == "centred_clipping" else state[order]
    np.testing.assert_allclose(aggregate(name, rows[order], own)[0], due, rtol=2e-5, atol=2e-5)
    # Six places are empty, and what lies there is nobody's.
    padded, present = np.concatenate([rows, 0 * rows[:6]]), np.arange(CLIENTS + 6) < CLIENTS
    clients = np.concatenate([np.arange(CLIENTS), np.zeros(6, int)])
    found, padded_kept = aggregate(name, padded, state, present, clients) if name != "fools_gold" else aggregate(
        name, padded, np.concatenate([state, state[:6]]), present, clients
    )  # fmt: skip
    np.testing.assert_allclose(found, due, rtol=2e-5, atol=2e-5)
    if name == "fools_gold":
        np.testing.assert_allclose(kept, state + rows, rtol=1e-6)
        np.testing.assert_allclose(padded_kept, np.concatenate([state + rows, state[:6]]), rtol=1e-6)
    if name == "centred_clipping":
        np.testing.assert_allclose(padded_kept, due, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", ["krum", "multi_krum", "geometric_median", "centred_clipping"])
def test_two_of_fourteen_move_it_less_than_they_move_the_mean(cohort, name):
    rows, state = cohort
    honest = np.delete(rows, [4, 9], axis=0).mean(axis=0)
    moved = np.linalg.norm(aggregate(name, rows, 0 * state)[0] - honest)
    assert moved < 0.75 * np.linalg.norm(rows.mean(axis=0) - honest)


def test_two_who_send_the_same_round_after_round_count_for_nothing(cohort):
    rows, _ = cohort
    trust = np.asarray(rules.trust_by_history(jnp.asarray(rows - np.linspace(0, 1, 6, dtype=np.float32)),
                                              jnp.ones(CLIENTS, bool)))  # fmt: skip
    assert trust[4] == trust[9] == 0
    assert trust.max() > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_nobody_and_one_client(cohort, name):
    rows, state = cohort
    nobody, kept = aggregate(name, rows[:5], state[:5], np.zeros(5, bool))
    np.testing.assert_array_equal(nobody, 0)
    if name == "centred_clipping":
        np.testing.assert_array_equal(kept, state[0])
    elif name == "fools_gold":
        np.testing.assert_array_equal(kept, state[:5])
    one, _ = aggregate(name, rows[:5], 0 * state[:5], np.arange(5) < 1)
    own = name in ("centred_clipping", "fl_trust")
    due = expected(name, rows[:1], 0 * state[:1]) if own else rows[0]
    np.testing.assert_allclose(one, due, rtol=1e-5)


SIZES, ROUNDS = [5, 9, 1, 12, 3, 7], 3


def rounds(federation, plan, ours, hyper):
    problem = place(ours.problem._replace(part_hyper=hyper), plan)
    state = init_server(federation, ours.params, problem)
    state, _ = compile_run(federation, plan, ROUNDS, state, problem)(place(state, plan), jnp.int32(ROUNDS), problem)
    return jax.device_get(engine.unplaced(state, len(SIZES), plan))


@pytest.mark.parametrize("name", ["centred_clipping", "fools_gold"])
def test_rounds_by_a_rule_are_the_same_however_the_cohort_is_spread(make_federation, make_local, name):
    ours, local = make_federation(SIZES), make_local(4, 12, optimizer="sgd", epochs=1)
    federation = Federation(local, cohort=4, aggregation=getattr(rules, name))
    hyper = PartHyper(aggregation=jnp.float32({"centred_clipping": 0.02}.get(name, HOSTILE)))
    by_scan = rounds(federation, Plan("scan"), ours, hyper)
    found = rounds(federation, Plan("chunk", 2, 2), ours, hyper)
    np.testing.assert_allclose(found.params.keys, by_scan.params.keys, rtol=0, atol=1e-6)
    plain = rounds(federation._replace(aggregation=mean), Plan("scan"), ours, PartHyper())
    assert np.abs(plain.params.keys - by_scan.params.keys).max() > 1e-4


def test_the_servers_own_update_is_that_of_a_client_who_holds_its_rows(make_federation, make_local):
    """Nine rows of the server's in three batches; their order is not shuffled, so that no key is in it."""
    ours, local = make_federation(SIZES), make_local(4, 12, optimizer="sgd", epochs=2, shuffle=False)
    other = make_federation([9])
    root = other.problem.data._replace(labels=other.problem.data.labels[::-1])
    asked = engine.Aggregation(root=True, collect=lambda updates, received: received.root)

    def one_round(aggregation, problem):
        federation, state = Federation(local, aggregation=aggregation), None
        state = init_server(federation, ours.params, problem)
        state, _ = compile_run(federation, Plan("scan"), 1, state, problem)(state, jnp.int32(1), problem)
        return state.params.keys

    due = one_round(mean, other.problem._replace(data=root))
    np.testing.assert_allclose(one_round(asked, ours.problem._replace(root=root)), due, rtol=0, atol=1e-6)
    assert np.abs(due - ours.params.keys).max() > 1e-3
    with pytest.raises(ValueError, match=r"Problem\.root"):
        one_round(asked, ours.problem)
