"""Sizes of a plan suit the clients, and a plan that cannot train is refused."""

import jax
import numpy as np
import pytest

from cachefl_jax.federation import Plan, Shapes, everybody, make_plan
from cachefl_jax.federation.participation import deal
from cachefl_jax.federation.place import mesh_of
from cachefl_jax.federation.plan import (
    BLOCK_ROWS,
    BLOCK_SPAN,
    IDLE,
    choose_block,
    choose_lanes,
    fill_blocks,
    typical_rounds,
)


def shapes(client_rows, cohort=0, scores=160, width=512) -> Shapes:
    return Shapes(np.asarray(client_rows), cohort or len(client_rows), scores, width)


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_clients_of_one_size_leave_no_lane_idle_and_no_row_of_a_block_empty(make_local, devices):
    plan = make_plan("dual", make_local(32, 64, optimizer="sgd"), shapes([64] * 100), devices)
    assert plan.block_rows // 64 % plan.client_chunk == 0
    assert plan.client_chunk > 1
    assert plan.block_rows % 64 == 0
    assert 6400 // devices % plan.block_rows == 0
    assert BLOCK_ROWS // BLOCK_SPAN <= plan.block_rows <= BLOCK_ROWS


def test_lanes_are_fewer_where_clients_differ_and_seldom_wait():
    equal, skewed = np.full(100, 2), np.asarray([13, 11, 10, 9, 8, 6, 4] + [1] * 93)
    assert choose_lanes([equal], 25) == 25
    assert choose_lanes([equal[:10]] * 10, 25) == 10  # of a block's ten clients
    lanes = choose_lanes([skewed], 25)
    assert 1 <= lanes < 25
    assert skewed[::lanes].sum() * lanes <= IDLE * skewed.sum()
    assert choose_lanes([np.asarray([9, 1, 1])], 3) == 1


@pytest.mark.parametrize("devices", [1, 3])
@pytest.mark.parametrize("seed", range(5))
def test_a_block_holds_the_largest_client_and_wastes_little(seed, devices):
    rows = np.random.default_rng(seed).integers(1, 300, 100)
    (shares,) = typical_rounds(shapes(rows), devices)
    size = choose_block([shares], 1500)
    assert size >= rows.max()
    assert len(shares) == devices
    assert max(len(fill_blocks(share, size)) for share in shares) * size <= 1.1 * rows.sum() / devices


def test_blocks_are_filled_as_the_engine_fills_them():
    rows = np.asarray([5, 4, 3, 3, 1])
    assert [len(fill_blocks(rows, size)) for size in (5, 6, 7, 9, 15, 16)] == [4, 4, 3, 2, 2, 1]
    assert [block.tolist() for block in fill_blocks(rows, 7)] == [[5], [4, 3], [3, 1]]


def test_no_device_gets_the_larger_one_of_every_few_clients():
    rows = np.sort(np.random.default_rng(0).pareto(1, 101) * 50 + 1).astype(int)[::-1]
    for devices in (1, 2, 4):
        dealt = deal(rows, devices)
        assert (np.diff(dealt, axis=1) <= 0).all()
        assert np.sort(dealt, axis=None)[::-1][:101].tolist() == rows.tolist()
        assert (np.asarray(deal(jax.numpy.asarray(rows), devices)) == dealt).all()
    equal = deal(np.arange(100, 0, -1), 2).sum(axis=1)
    assert equal[0] == equal[1]


def test_typical_rounds_are_of_the_populations_sizes_without_those_that_do_not_train_on_coefficients():
    population = shapes([600, 0, *range(1, 101)], cohort=51)
    for (rows,) in typical_rounds(population, devices=1):
        assert 49 <= len(rows) <= 51
        assert (np.diff(rows) <= 0).all()
        assert rows.max() <= 100
        assert rows.mean() == pytest.approx(50, abs=10)
    ((whole,),) = typical_rounds(population._replace(cohort=102), devices=1)
    assert whole.tolist() == list(range(100, 0, -1))


def test_more_devices_than_there_are_are_refused_in_the_words_that_tests_skip_by():
    with pytest.raises(ValueError, match="^Number of devices"):
        mesh_of(jax.device_count() + 1, 1)


def test_given_sizes_are_kept(make_local):
    local = make_local(32, 64, optimizer="sgd")
    assert make_plan("dual", local, shapes([64] * 10)._replace(client_chunk=3, block_rows=700), 2) == Plan(
        "dual", 3, 2, 700
    )
    assert make_plan("chunk", local, shapes([64] * 10)._replace(client_chunk=4), 1) == Plan("chunk", 4)
    assert make_plan("vmap", local, shapes([64] * 10), 4) == Plan("vmap", 3, 4)
    assert make_plan("scan", local, shapes([64] * 10)._replace(client_chunk=4), 2) == Plan("scan", 1, 2)


@pytest.mark.parametrize(
    ("plan", "optimizer", "message"),
    [
        (Plan("fast"), "sgd", "strategy 'fast' is none of scan, chunk, vmap, dual"),
        (Plan("chunk", 0), "sgd", "client_chunk 0 and devices 1 must be 1 or more"),
        (Plan("dual", 3, 1, 5), "sgd", "block_rows 5 cannot hold a client of 8 rows"),
        (
            Plan("dual", 3, 1, 64),
            "adamw",
            "dual needs a linear loss without noise on its steps, and sgd, momentum or nesterov",
        ),
    ],
)
def test_a_plan_that_cannot_train_is_refused(make_federation, make_local, plan, optimizer, message):
    federation, local = make_federation([9, 4, 7]), make_local(4, 12, optimizer=optimizer)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(federation.round(local, plan), federation.start(), everybody(3), federation.problem)


def test_an_accelerator_trains_as_many_side_by_side_as_its_memory_holds(make_local):
    local, one = make_local(32, 64, optimizer="sgd"), 160 * 512 * 4
    whole = shapes([64] * 100)._replace(params=one, memory=80 * 2**30)
    assert make_plan("dual", local, whole, 1, "gpu") == Plan("dual", 100, 1, 6400)
    assert make_plan("chunk", local, whole, 1, "gpu") == Plan("chunk", 100, 1)
    assert make_plan("chunk", local, whole._replace(memory=0), 1, "gpu").client_chunk == 100
    small = whole._replace(memory=2**25)
    dual, chunk = make_plan("dual", local, small, 1, "gpu"), make_plan("chunk", local, small, 1, "gpu")
    assert 1 < chunk.client_chunk < 100
    assert chunk.client_chunk * one < 2**25 / 2
    assert dual.block_rows < 6400
    assert dual.block_rows * 160 * 4 < 2**25
    assert dual.client_chunk * 64 <= dual.block_rows
    tiny = make_plan("dual", local, small._replace(memory=1), 1, "gpu")
    assert (tiny.client_chunk, tiny.block_rows) == (1, 64)
    given = small._replace(client_chunk=3, block_rows=700)
    assert make_plan("dual", local, given, 2, "gpu") == Plan("dual", 3, 2, 700)
