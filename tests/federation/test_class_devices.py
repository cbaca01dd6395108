"""A group of devices shares a client's keys by their classes: the keys of one device that has them all."""

import functools

import jax
import numpy as np
import pytest

from cachefl_jax import federation as engine
from cachefl_jax.federation import SERVER_OPTIMIZERS, Plan, compile_run, init_server, place, plan_batches, unplaced
from cachefl_jax.federation.algorithms import ditto, scaffold
from cachefl_jax.federation.memory import footprint, needed

pytestmark = pytest.mark.quick
CLASSES, WIDTH, SIZES = 8, 12, [5, 0, 7, 2, 4, 1]
COHORTS = [[0, 1, 2, 3, 4, 5], [4, 2, 0], [5, 3, 1, 4]]
SCAN = Plan("scan")
PLANS = {
    "scan_1x4": Plan("scan", class_devices=4, classes=CLASSES),
    "scan_2x2": Plan("scan", devices=2, class_devices=2, classes=CLASSES),
    "chunk_of_2_2x2": Plan("chunk", 2, devices=2, class_devices=2, classes=CLASSES),
    "vmap_1x2": Plan("vmap", 6, class_devices=2, classes=CLASSES),
}


@pytest.fixture(scope="module")
def federation(make_federation):
    return make_federation(SIZES, WIDTH, CLASSES, scattered=True)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("name", PLANS)
def test_keys_are_those_of_one_device(federation, make_local, name, optimizer):
    local = make_local(*plan_batches(2, max(SIZES)), optimizer, 2)
    found, plain = (federation.train(local, COHORTS, plan) for plan in (PLANS[name], SCAN))
    moved = np.abs(np.asarray(plain[0].params.keys) - np.asarray(federation.params.keys)).max()
    assert moved > 1e-3
    np.testing.assert_allclose(found[0].params.keys, plain[0].params.keys, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found[1].train_loss, plain[1].train_loss, rtol=0, atol=1e-5)


def test_no_device_holds_all_keys(federation, make_local):
    """In the compiled run: arguments, results and temporaries of a device shrink with the classes that it has."""
    wide = federation._replace(params=jax.tree.map(lambda leaf: np.tile(leaf, (1, 64, 1)), federation.params))
    made = engine.Federation(make_local(*plan_batches(2, max(SIZES)), "adamw", 1))

    def bytes_of(plan: Plan) -> int:
        state = init_server(made, wide.params, wide.problem)
        run = compile_run(made, plan, 4, state, wide.problem)
        placed = place(state, plan)
        shards = {shard.data.shape for shard in placed.params.keys.addressable_shards}
        assert shards == {(CLASSES // plan.class_devices, 192, WIDTH)}
        after, _ = run(placed, np.int32(2), place(wide.problem, plan))
        assert {shard.data.shape for shard in after.params.keys.addressable_shards} == shards
        text = run.compiled.as_text()
        keys = f"f32[{CLASSES},192,{WIDTH}]"
        assert (keys in text) == (plan.class_devices == 1)  # nowhere, not for a moment either
        told = run.memory_analysis()
        return told.argument_size_in_bytes + told.temp_size_in_bytes

    one, four = bytes_of(SCAN), bytes_of(Plan("scan", class_devices=4, classes=CLASSES))
    assert four < 0.35 * one


def test_what_clients_keep_is_shared_too(federation, make_local):
    """SCAFFOLD's control variates, [C, N, K, D], lie by clients and classes; a checkpoint has them whole."""
    local = make_local(*plan_batches(2, max(SIZES)), "sgd", 1, work=scaffold)
    made = engine.Federation(local, SERVER_OPTIMIZERS["sgd"])
    cohort = federation.cohort(COHORTS[0])

    @functools.cache
    def trained(plan: Plan):
        one_round = engine.make_round(made, plan)
        state = init_server(made, federation.params, federation.problem)
        for _ in range(2):
            state, _ = one_round(state, cohort, federation.problem)
        return state

    plan = PLANS["scan_2x2"]
    (kept,) = jax.tree.leaves(trained(plan).clients)
    assert {shard.data.shape for shard in kept.addressable_shards} == {(3, CLASSES // 2, 3, WIDTH)}
    whole, plain = unplaced(trained(plan), len(SIZES), plan), trained(SCAN)
    np.testing.assert_allclose(whole.params.keys, plain.params.keys, rtol=0, atol=1e-6)
    # A variate is a difference of keys over the learning rate, and so is its rounding.
    (own,) = jax.tree.leaves(plain.clients)
    np.testing.assert_allclose(*jax.tree.leaves(whole.clients), own, rtol=0, atol=1e-5)


def test_what_clients_keep_counts_by_where_it_lies(make_federation, make_local, monkeypatch):
    """An array without an axis of the classes is dealt to the groups, and lies whole on each device of one."""
    plan, made = PLANS["scan_2x2"], make_federation([2] * 40, WIDTH, classes=5)
    ditto_too = engine.Federation(make_local(1, 2, "sgd", 1, work=ditto))
    state = init_server(ditto_too, made.params, made.problem)
    run = compile_run(ditto_too, plan, 1, state, made.problem)
    told = run.memory_analysis()
    due = told.argument_size_in_bytes + told.temp_size_in_bytes
    due += max(told.output_size_in_bytes - told.alias_size_in_bytes, 0)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")  # whose devices have memories of their own
    need = footprint(run, state, made.problem, plan)
    assert need.clients == 20 * made.params.keys.nbytes
    assert needed(plan, need) == pytest.approx(due, rel=0.1)


def test_classes_that_cannot_be_shared_are_refused(federation, make_local):
    local = make_local(*plan_batches(2, max(SIZES)), "sgd", 1)
    for plan in (Plan("scan", class_devices=3, classes=CLASSES), Plan("dual", 1, 1, 80, 2, CLASSES)):
        with pytest.raises(ValueError, match="cannot share 8 classes"):
            federation.train(local, COHORTS[:1], plan)
