"""Sizes of a plan suit the clients, and a plan that cannot train is refused."""

import jax
import numpy as np
import pytest

from cachefl_jax.federation import Plan, Shapes, everybody, make_plan
from cachefl_jax.federation.plan import FEWEST_ROWS, IDLE, choose_block, choose_lanes, count_blocks, typical_cohort


def shapes(client_rows, cohort=0, scores=160, width=512) -> Shapes:
    return Shapes(np.asarray(client_rows), cohort or len(client_rows), scores, width)


def test_clients_of_one_size_leave_no_lane_idle_and_no_row_of_a_block_empty(make_local):
    plan = make_plan("dual", make_local(32, 64, optimizer="sgd"), shapes([64] * 100))
    assert 100 % plan.client_chunk == 0
    assert plan.block_rows % 64 == 0
    assert 6400 % plan.block_rows == 0
    assert plan.block_rows >= FEWEST_ROWS


def test_lanes_are_fewer_where_clients_differ_and_seldom_wait():
    equal, skewed = np.full(100, 2), np.asarray([13, 11, 10, 9, 8, 6, 4] + [1] * 93)
    assert choose_lanes(equal, 25) == 25
    lanes = choose_lanes(skewed, 25)
    assert 1 <= lanes < 25
    assert skewed[::lanes].sum() * lanes <= IDLE * skewed.sum()
    assert choose_lanes(np.asarray([9, 1, 1]), 3) == 1


@pytest.mark.parametrize("seed", range(5))
def test_a_block_holds_the_largest_client_and_wastes_little(seed):
    rows = np.sort(np.random.default_rng(seed).integers(1, 300, 100))[::-1]
    size = choose_block(rows, shapes(rows), 2**21)
    assert size >= rows.max()
    blocks = count_blocks(np.cumsum(rows), size)
    assert blocks * size <= 1.15 * rows.sum()


def test_blocks_are_filled_as_the_engine_fills_them():
    ends = np.cumsum([5, 4, 3, 3, 1])
    assert [count_blocks(ends, size) for size in (5, 6, 7, 9, 15, 16)] == [4, 4, 3, 2, 2, 1]


def test_a_typical_cohort_is_of_the_populations_sizes_without_those_that_do_not_train_on_coefficients():
    rows = typical_cohort(shapes([600, 0, *range(1, 101)], cohort=51), devices=1)
    assert len(rows) == 49
    assert (np.diff(rows) <= 0).all()
    assert rows.max() <= 100
    assert rows.mean() == pytest.approx(50, abs=3)


def test_given_sizes_are_kept(make_local):
    local = make_local(32, 64, optimizer="sgd")
    assert make_plan("dual", local, shapes([64] * 10), 2, chunk=3, block_rows=700) == Plan("dual", 3, 2, 700)
    assert make_plan("chunk", local, shapes([64] * 10), 1, chunk=4) == Plan("chunk", 4)
    assert make_plan("vmap", local, shapes([64] * 10), 4) == Plan("vmap", 3, 4)
    assert make_plan("scan", local, shapes([64] * 10), 2, chunk=4) == Plan("scan", 1, 2)


@pytest.mark.parametrize(
    ("plan", "optimizer", "message"),
    [
        (Plan("fast"), "sgd", "strategy 'fast' is none of scan, chunk, vmap, dual"),
        (Plan("chunk", 0), "sgd", "client_chunk 0 and devices 1 must be 1 or more"),
        (Plan("dual", 3, 1, 5), "sgd", "block_rows 5 cannot hold a client of 8 rows"),
        (Plan("dual", 3, 1, 64), "adamw", "dual needs a linear loss and sgd, momentum or nesterov"),
    ],
)
def test_a_plan_that_cannot_train_is_refused(make_federation, make_local, plan, optimizer, message):
    federation, local = make_federation([9, 4, 7]), make_local(4, 12, optimizer=optimizer)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(federation.round(local, plan), federation.start(), everybody(3), federation.problem)
