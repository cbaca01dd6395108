"""Who is drawn: any set of clients is as likely as another, on the device, at a cost that follows the cohort."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cachefl_jax.federation import draw_cohort, everybody

pytestmark = pytest.mark.quick

CLIENTS = 23
# A cohort of a quarter of the population or more is drawn by sorting all of it, and a smaller one number by number.
BRANCH = 6
ROUNDS = 4096
# Pearson's statistic lies above degrees of freedom + 5 standard deviations by chance about once in 10^5 draws.
DEVIATIONS = 5.0


def draw_many(clients: int, size: int, rounds: int = ROUNDS, draw=draw_cohort) -> np.ndarray:
    """[rounds, size] clients, each row by its own key."""
    keys = jax.random.split(jax.random.key(0), rounds)
    return np.asarray(jax.jit(jax.vmap(lambda key: draw(key, clients, size).clients))(keys))


def is_uniform(observed: np.ndarray, expected: float, variance_of_one: float) -> bool:
    """Whether counts, each of this mean and variance, scatter no more than chance allows."""
    freedom = observed.size - 1
    statistic = ((observed - expected) ** 2).sum() / (variance_of_one * observed.size / freedom)
    return statistic < freedom + DEVIATIONS * np.sqrt(2 * freedom)


def clients_are_uniform(drawn: np.ndarray, clients: int) -> bool:
    """Whether every client is drawn as often as another: each is in a cohort with probability size / clients."""
    rounds, size = drawn.shape
    share = size / clients
    return is_uniform(np.bincount(drawn.ravel(), minlength=clients), rounds * share, rounds * share * (1 - share))


def sets_are_uniform(drawn: np.ndarray, clients: int) -> bool:
    """Whether every pair of clients is drawn as often as another: who is drawn says nothing of who else is."""
    rounds, size = drawn.shape
    here = np.zeros((rounds, clients))
    np.put_along_axis(here, drawn, 1, axis=1)
    pairs = (here.T @ here)[np.triu_indices(clients, 1)]
    share = size * (size - 1) / (clients * (clients - 1))
    return is_uniform(pairs, rounds * share, rounds * share * (1 - share))


@pytest.mark.parametrize(("clients", "sizes"), [(9, range(1, 10)), (8, (1, 2)), (5, (1,)), (4, (1,)), (2, (1,))])
def test_no_client_is_drawn_twice_at_any_size(clients, sizes):
    """Both ways to draw, and the sizes where they meet."""
    for size in sizes:
        drawn = draw_many(clients, size, rounds=64)
        assert drawn.shape == (64, size)
        assert all(len(set(row.tolist())) == size for row in drawn)
        assert drawn.min() >= 0
        assert drawn.max() < clients


@pytest.mark.parametrize("size", [BRANCH - 1, BRANCH])
def test_a_key_decides_the_cohort_traced_or_not(size):
    traced = jax.jit(draw_cohort, static_argnums=(1, 2))
    drawn, again, inside = (draw(jax.random.key(3), CLIENTS, size) for draw in (draw_cohort, draw_cohort, traced))
    assert int(drawn.size) == int(inside.size) == size
    drawn, again, inside = drawn.clients, again.clients, inside.clients
    assert drawn.dtype == jnp.int32
    np.testing.assert_array_equal(drawn, again)
    np.testing.assert_array_equal(drawn, inside)
    assert set(drawn.tolist()) != set(draw_cohort(jax.random.key(4), CLIENTS, size).clients.tolist())


@pytest.mark.parametrize("size", [0, 6])
def test_a_cohort_of_size_0_or_of_all_is_everybody(size):
    for found, expected in zip(draw_cohort(jax.random.key(0), 6, size), everybody(6), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("size", [2, BRANCH - 1, BRANCH, CLIENTS - 1])
def test_every_set_of_clients_is_as_likely_as_another(size):
    drawn = draw_many(CLIENTS, size)
    assert clients_are_uniform(drawn, CLIENTS)
    assert size == CLIENTS - 1 or sets_are_uniform(drawn, CLIENTS)


def biased_towards_the_first(key, clients: int, size: int):
    """The first client has 1.3 times the others' chance."""
    weights = jnp.ones(clients).at[0].set(1.3)
    chosen = jax.random.choice(key, clients, (size,), replace=False, p=weights / weights.sum())
    return draw_cohort(key, clients, size)._replace(clients=chosen)


def neighbours(key, clients: int, size: int):
    """Every client is as likely as another, but they come as neighbours."""
    start = jax.random.randint(key, (), 0, clients)
    return draw_cohort(key, clients, size)._replace(clients=(start + jnp.arange(size)) % clients)


def test_the_checks_above_see_a_biased_draw():
    """Without this, they would pass where they see nothing."""
    assert not clients_are_uniform(draw_many(CLIENTS, 5, draw=biased_towards_the_first), CLIENTS)
    in_a_row = draw_many(CLIENTS, 5, draw=neighbours)
    assert clients_are_uniform(in_a_row, CLIENTS)
    assert not sets_are_uniform(in_a_row, CLIENTS)


def test_the_place_in_a_cohort_says_nothing_of_the_client():
    """The first place is as uniform as the last, so a cohort cut short is still a fair one."""
    drawn = draw_many(CLIENTS, BRANCH - 1)
    for place in (0, BRANCH - 2):
        assert clients_are_uniform(drawn[:, [place]], CLIENTS)


@pytest.mark.parametrize(("clients", "size", "touched"), [(4001, 1000, False), (4000, 1000, True)])
def test_a_small_cohort_is_drawn_without_touching_the_population(sizes_of_arrays, clients, size, touched):
    sizes = sizes_of_arrays(lambda key: draw_cohort(key, clients, size), jax.random.key(0))
    assert size in sizes
    assert (max(sizes) >= clients) == touched


def test_1000_of_a_million_clients_are_drawn_in_well_under_a_second():
    draw = jax.jit(draw_cohort, static_argnums=(1, 2))
    jax.block_until_ready(draw(jax.random.key(0), 1_000_000, 1000))
    before = time.perf_counter()
    cohorts = [np.asarray(draw(jax.random.key(seed), 1_000_000, 1000).clients) for seed in range(20)]
    seconds = (time.perf_counter() - before) / len(cohorts)
    assert all(len(set(drawn.tolist())) == 1000 for drawn in cohorts)
    assert seconds < 0.1


@pytest.mark.parametrize(("clients", "size"), [(100, 24), (4097, 1024), (50_000, 12_000)])
def test_sizes_just_under_a_quarter_are_met_by_every_key(clients, size):
    """Where drawing with replacement comes closest to too few different clients."""
    for drawn in draw_many(clients, size, rounds=64):
        assert len(set(drawn.tolist())) == size


def test_draws_with_too_few_different_clients_make_a_smaller_cohort(monkeypatch):
    """Which chance alone would not show in a lifetime: here all draws are of three clients."""
    randint = jax.random.randint
    monkeypatch.setattr(jax.random, "randint", lambda key, shape, lowest, highest: 5 + randint(key, shape, 0, 3))
    for number in range(4):
        drawn = draw_cohort(jax.random.key(number), CLIENTS, BRANCH - 1)
        assert drawn.size == 3
        assert set(drawn.clients[:3].tolist()) == {5, 6, 7}
