"""Where all clients' sizes are known before the run, the program asks the host for no bound, and trains the same.

1e-6 where clients train on the parameters, 1e-5 on coefficients, as in `test_strategies`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from host_reads import host_reads

from cachefl_jax import federation as engine
from cachefl_jax.federation import (
    Plan,
    aggregation,
    algorithms,
    participation,
    plan_batches,
    sizes_of,
    transforms,
    with_sizes,
)
from cachefl_jax.federation.checks import ClientCheck
from cachefl_jax.federation.run import COHORT
from cachefl_jax.federation.timetable import EXACT, GRID, MOST_PARTS, parts_of, places_of, stages_of

pytestmark = pytest.mark.quick

WIDTH, BATCH, ROUNDS = 24, 4, 2
SIZES = (9, 0, 22, 1, 27, 21, 4, 12)  # 27 rows are more than D: trained on parameters
FEW, EVEN = (9, 0, 5, 12), (8,) * 6
DUAL, DUAL_IN_PARTS = Plan("dual", 8, block_rows=100), Plan("dual", 3, block_rows=50)
VMAP, CHUNK = Plan("vmap", 8), Plan("chunk", 4)


class Setting(NamedTuple):
    """What is compiled into a round."""

    optimizer: str = "sgd"
    batch_size: int = BATCH
    epochs: int = 1
    sizes: tuple[int, ...] = SIZES
    more: Mapping = MappingProxyType({})
    parts: Mapping = MappingProxyType({})


CASES = {
    "sgd": (Setting(), DUAL, VMAP),
    "sgd, row by row": (Setting(batch_size=1, sizes=(9, 0, 1, 3)), DUAL),
    "sgd, epochs": (Setting(epochs=2, sizes=FEW, more={"proximal": True, "clip": True}), DUAL_IN_PARTS),
    "sgd, in order": (Setting(epochs=2, sizes=FEW, more={"shuffle": False}), DUAL),
    "momentum": (Setting("momentum", sizes=FEW, more={"proximal": True}), DUAL),
    "adamw": (Setting("adamw"), CHUNK),
    "adamw, row by row": (Setting("adamw", 1, sizes=(7, 6, 5, 4, 3, 2, 1), more={"clip": True}), VMAP),
    "adamw, even": (Setting("adamw", epochs=2, sizes=EVEN), VMAP),
    "sgd, even": (Setting(sizes=EVEN, more={"shuffle": False}), DUAL),
    "fednova, drift": (
        Setting(sizes=FEW, more={"work": algorithms.fednova}, parts={"drift": True, "transforms": (transforms.clip,)}),
        DUAL, VMAP,
    ),
    "scaffold": (Setting(sizes=FEW, more={"work": algorithms.scaffold}), CHUNK),
    "median": (Setting("adamw", sizes=FEW, parts={"aggregation": aggregation.median}), CHUNK),
    "ditto": (Setting("adamw", sizes=FEW, more={"work": algorithms.ditto}), CHUNK),
}  # fmt: skip
MEETINGS = [(name, plan) for name, (_, *plans) in CASES.items() for plan in plans]


NEAR = (0, 20, 20, 19, 18, 20, 20, 20)
DRAWN = {
    "sgd": (Setting(epochs=2, sizes=NEAR, more={"proximal": True, "clip": True}, parts={"cohort": 3}), DUAL),
    "momentum": (Setting("momentum", sizes=NEAR, more={"proximal": True}, parts={"cohort": 5}), DUAL_IN_PARTS),
    "adamw": (Setting("adamw", sizes=NEAR, parts={"cohort": 5}), CHUNK),
    "fednova": (Setting(sizes=NEAR, more={"work": algorithms.fednova}, parts={"cohort": 3, "drift": True}), DUAL),
    "median": (Setting("adamw", sizes=NEAR, parts={"cohort": 3, "aggregation": aggregation.median}), CHUNK),
}  # fmt: skip


def program(make_federation, make_local, setting: Setting, plan: Plan, known: bool):
    """(the run's program, its first state, its problem)."""
    made = make_federation(list(setting.sizes), WIDTH, scattered=True)
    sized = plan_batches(setting.batch_size, max(setting.sizes))
    local = make_local(*sized, setting.optimizer, setting.epochs, **setting.more)
    federation = engine.Federation(local, **setting.parts)
    rate = 3e-3 if setting.optimizer == "adamw" else 0.05
    numbers = {"learning_rate": rate, "proximal": 2.0, "clip_norm": 0.2}
    hyper = made.problem.hyper._replace(**{name: jnp.float32(number) for name, number in numbers.items()})
    problem = made.changed(hyper=hyper).problem
    if setting.parts.get("transforms"):
        problem = problem._replace(part_hyper=engine.PartHyper(transforms=(jnp.float32(0.05),)))
    if known:
        federation = with_sizes(federation, plan, np.asarray(setting.sizes), "gpu")
    problem = engine.add_gram(federation, plan, problem)
    state = engine.init_server(federation, made.params, problem)
    return engine.compile_run(federation, plan, ROUNDS, state, problem), state, problem


@pytest.mark.parametrize("name", DRAWN)
def test_drawn_cohorts_train_the_same_in_places_that_have_room_for_the_largest(make_federation, make_local, name):
    (setting, plan), rounds, found = DRAWN[name], 4, []
    for plan_of_it, known in ((Plan("scan"), False), (plan, True)):
        run, state, problem = program(make_federation, make_local, setting, plan_of_it, known)
        start = np.asarray(state.params.keys)
        state, metrics = run(state, np.int32(rounds), problem)
        found.append((np.asarray(state.params.keys), jax.tree.map(np.asarray, metrics)))
    if name in ("sgd", "adamw"):
        assert host_reads(run.compiled.as_text()) == 1  # the loop over rounds
    tolerance = 1e-5 if plan.strategy == "dual" else 1e-6
    (expected, told), (keys, metrics) = found
    assert np.abs(expected - start).max() > 100 * tolerance
    assert np.abs(keys - expected).max() < tolerance
    for figure, due in zip(jax.tree.leaves(metrics), jax.tree.leaves(told), strict=True):
        np.testing.assert_allclose(figure, due, rtol=1e-4, atol=tolerance)
    drawn = [set(drawn_rows(setting, problem, number)) for number in range(rounds)]
    assert any(0 in rows for rows in drawn)  # a client without rows
    assert any(rows != {20} for rows in drawn)


def drawn_rows(setting: Setting, problem, number: int) -> np.ndarray:
    """Rows of the clients of a round's cohort."""
    key = jax.random.fold_in(jax.random.fold_in(problem.key, number), COHORT)
    cohort = participation.draw_cohort(key, len(setting.sizes), setting.parts["cohort"])
    return np.asarray(setting.sizes)[np.asarray(cohort.clients)]


@pytest.mark.parametrize(("name", "plan"), MEETINGS, ids=lambda part: part if isinstance(part, str) else part.strategy)
def test_known_sizes_give_the_keys_of_one_client_after_another(make_federation, make_local, name, plan):
    setting, found = CASES[name][0], []
    for plan_of_it, known in ((Plan("scan"), False), (plan, True)):
        run, state, problem = program(make_federation, make_local, setting, plan_of_it, known)
        start = np.asarray(state.params.keys)
        state, metrics = run(state, np.int32(ROUNDS), problem)
        found.append((np.asarray(state.params.keys), jax.tree.map(np.asarray, metrics), jax.tree.leaves(state)))
    tolerance = 1e-5 if plan.strategy == "dual" else 1e-6
    (expected, told, left), (keys, metrics, own) = found
    assert np.abs(expected - start).max() > 100 * tolerance
    assert np.abs(keys - expected).max() < tolerance
    for figure, due in zip(jax.tree.leaves(metrics), jax.tree.leaves(told), strict=True):
        np.testing.assert_allclose(figure, due, rtol=1e-4, atol=tolerance)
    for leaf, due in zip(own, left, strict=True):  # what clients keep, too
        assert np.abs(np.asarray(leaf, np.float64) - np.asarray(due, np.float64)).max() < 100 * tolerance


@pytest.mark.parametrize(("name", "known"), [("sgd, epochs", True), ("adamw", True), ("sgd, even", False)])
def test_a_round_asks_the_host_for_nothing_where_sizes_are_known(make_federation, make_local, name, known):
    setting, plan = CASES[name][:2]
    setting = setting._replace(sizes=tuple(min(size, WIDTH) for size in setting.sizes))
    run, _, _ = program(make_federation, make_local, setting, plan, known)
    reads = host_reads(run.compiled.as_text())
    assert reads == 1 if known else reads > 2  # the loop over rounds alone


def test_a_program_for_some_sizes_refuses_others(make_federation, make_local):
    local, others = make_local(*plan_batches(BATCH, 8)), make_federation([8, 8, 8, 8, 7, 8], WIDTH)
    federation = engine.Federation(local, sizes=sizes_of(np.asarray(EVEN)))
    with pytest.raises(ValueError, match="Federation.sizes"):
        engine.compile_run(federation, VMAP, ROUNDS, others.start(), others.problem)
    check = ClientCheck(local, federation.sizes)  # what a compiled program asks before every call
    even = make_federation(list(EVEN), WIDTH).problem
    check(even.clients, even.data)
    with pytest.raises(ValueError, match="Federation.sizes"):
        check(others.problem.clients, others.problem.data)


def test_sizes_are_known_on_one_accelerator_only(make_local):
    rows, local = np.asarray([3, 0, 5, 3]), make_local(1, 5)
    everybody = engine.Federation(local)
    assert with_sizes(everybody, VMAP, rows, "gpu").sizes == ((5, 1), (3, 2))
    assert with_sizes(everybody, VMAP, rows, "cpu").sizes == ()
    assert with_sizes(everybody._replace(cohort=2), VMAP, rows, "gpu").sizes == ((5, 1), (3, 2))
    assert with_sizes(everybody, VMAP._replace(devices=2), rows, "gpu").sizes == ()
    assert with_sizes(everybody, Plan("scan"), rows, "gpu").sizes == ()
    assert with_sizes(everybody._replace(local=local._replace(compact=True)), VMAP, rows, "gpu").sizes == ()
    own = engine.with_personal_leaves(algorithms.fedavg, lambda params: jax.tree.map(lambda leaf: True, params))
    for work in (algorithms.ditto, own):  # which train from elsewhere, or keep what they have trained
        assert with_sizes(everybody._replace(local=local._replace(work=work)), VMAP, rows, "gpu").sizes == ()


@pytest.mark.parametrize("seed", range(5))
def test_every_client_has_all_its_steps_in_the_stages(seed):
    steps = np.sort(np.random.default_rng(seed).integers(1, 200 if seed else 5, 50))[::-1]
    stages = stages_of(steps)
    assert [stage.first for stage in stages] == [0, *(stage.after for stage in stages[:-1])]
    assert stages[-1].after == steps[0]
    assert len(stages) <= max(EXACT, (2 * steps[0] > GRID).sum())
    for place, due in enumerate(steps):
        own = [stage for stage in stages if place < stage.active]
        assert own[-1].after >= due > own[-1].first or own[-1].exact
        assert all(stage.after <= due for stage in own if stage.exact)
    idle = sum(stage.active * (stage.after - stage.first) for stage in stages) - steps.sum()
    assert idle <= steps.sum()
    if len(np.unique(steps)) <= EXACT:
        assert idle == 0


def test_what_is_known_of_a_drawn_cohort(make_local):
    sized = engine.Federation(make_local(1, 30), cohort=2, sizes=((30, 1), (29, 2)))
    assert places_of(sized, VMAP, 2, 3, 0) == (((30, 1), (29, 1)), False)
    assert places_of(sized._replace(cohort=0), VMAP, 3, 3, 0) == (sized.sizes, True)
    assert places_of(sized, DUAL, 2, 3, WIDTH) == ((), True)  # who trains on the params is not known
    assert places_of(sized, DUAL, 2, 3, 30) == (((30, 1), (29, 1)), False)
    for none in ((), ((30, 1), (3, 2))):  # in the latter, a cohort's places would have far more room than its clients
        assert places_of(sized._replace(sizes=none), VMAP, 2, 3, 0) == ((), True)
    often = sized._replace(sizes=((8, 900),), participation=participation.poisson)
    assert places_of(often._replace(cohort=800), VMAP, 900, 900, 0) == (((8, 900),), False)
    assert places_of(often._replace(cohort=90), VMAP, 900, 900, 0) == ((), True)


def test_parts_hold_every_client_once_in_order():
    sizes = sizes_of(np.asarray([5, 0, 3, 3, 9, 1]))
    parts = parts_of(sizes, (1, 5), most_clients=2, most_rows=8)
    assert [(part.first, part.rows.tolist()) for part in parts] == [(1, [5, 3]), (3, [3, 1])]
    assert parts_of((), (0, 5), 2) is None
    assert parts_of(((1, MOST_PARTS + 1),), (0, MOST_PARTS + 1), 1) is None
