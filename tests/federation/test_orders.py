"""The order of a client's rows: the same at every width, and no dearer for a neighbour that holds far more."""

import time

import jax
import numpy as np
import pytest

from cachefl_jax.federation import Plan, plan_batches
from cachefl_jax.federation.orders import PLACE_BITS, order_widths, shuffled, shuffled_orders

pytestmark = pytest.mark.quick

LARGE, SMALL = 10_000, 8  # rows
CLIENTS = 40  # small ones


def test_an_order_is_the_same_at_every_width():
    keys, widths = jax.random.split(jax.random.key(3), 2), order_widths(300, 20, ratio=2)
    assert widths == [300, 150, 75, 38, 19]
    orders = jax.jit(lambda counts, most: shuffled_orders(keys, counts, most, widths))
    for counts in ((5, 3), (19, 19), (20, 0), (80, 41), (300, 299)):
        found = np.asarray(orders(np.asarray(counts), counts[0]))
        for lane, count in enumerate(counts):
            expected = np.asarray(shuffled(keys[lane], count, 300))[:count]
            assert (found[lane, :count] == expected).all()
            assert sorted(expected) == list(range(count))


@pytest.mark.parametrize("width", [2**PLACE_BITS - 1, 2**PLACE_BITS, 2**PLACE_BITS + 1])
def test_an_order_is_that_of_uniform_draws_equal_ones_by_place(width):
    for number in range(200):
        key, count = jax.random.key(number), width - number
        draws = np.asarray(jax.random.uniform(key, (width,)))[:count]
        assert (np.asarray(shuffled(key, count, width))[:count] == np.argsort(draws, kind="stable")).all()
    doubled = [len(np.unique(jax.random.uniform(jax.random.key(seed), (width,)))) < width for seed in range(200)]
    assert any(doubled)  # or the test says nothing of equal draws


@pytest.mark.parametrize("plan", [Plan("scan"), Plan("chunk", 8)], ids=["scan", "chunk"])
def test_small_clients_cost_the_same_beside_one_that_is_1000_times_as_large(make_federation, make_local, plan):
    seconds, keys = [], []
    for largest in (SMALL, LARGE):
        # The large client comes last, so that the small ones' rows and numbers are the same; it takes no part.
        federation = make_federation([SMALL] * CLIENTS + [largest], width=4)
        local = make_local(*plan_batches(4, largest), "sgd")
        one_round, cohort = federation.round(local, plan), federation.cohort(list(range(CLIENTS)))
        state, took = federation.start(), []
        for _ in range(5):
            began = time.perf_counter()
            state, _ = jax.block_until_ready(one_round(state, cohort, federation.problem))
            took.append(time.perf_counter() - began)
        seconds.append(min(took))
        keys.append(np.asarray(state.params.keys))
    assert seconds[1] < 20 * seconds[0], seconds
    assert np.abs(keys[0] - keys[1]).max() < 1e-6
