"""What a federation computes does not depend on how it is run.

Four rounds of mini-batch AdamW; keys agree to 1e-6 whatever the chunk, the devices, the capacity and the company.
Where the order of floating-point operations is the same, they agree to the bit.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cachefl_jax.federation import draw_cohort, everybody, plan_batches
from cachefl_jax.federation.local import shuffled
from cachefl_jax.federation.round import by_size

# One row, fewer than a batch, whole batches, a row over; two of the same size.
SIZES = [1, 7, 12, 3, 9, 12]
BATCH = 4
ROUNDS = 4
TOLERANCE = 1e-6
ALL = list(range(len(SIZES)))


def keys_of(state) -> np.ndarray:
    return np.asarray(state.params.keys)


def assert_close(found: np.ndarray, expected: np.ndarray, start) -> None:
    """Within 1e-6, after having moved ten thousand times as far."""
    difference, moved = np.abs(found - expected).max(), np.abs(found - np.asarray(start.keys)).max()
    print(f"largest difference of keys {difference:.1e}, after moving {moved:.1e}")
    assert moved > 1e4 * TOLERANCE
    assert difference < TOLERANCE


@pytest.fixture
def problem(make_problem):
    return make_problem(SIZES)


@pytest.fixture
def local(make_local):
    return make_local(*plan_batches(BATCH, max(SIZES)))


@pytest.fixture
def expected(problem, local) -> np.ndarray:
    """Keys after four rounds, one client at a time."""
    return keys_of(problem.train(local, [ALL] * ROUNDS, chunk=1)[0])


@pytest.mark.parametrize(("chunk", "devices"), [(3, 1), (6, 1), (4, 4), (8, 4)])
def test_keys_do_not_depend_on_the_chunk_or_the_devices(problem, local, expected, chunk, devices):
    assert_close(keys_of(problem.train(local, [ALL] * ROUNDS, chunk, devices)[0]), expected, problem.params)


@pytest.mark.parametrize(("chunk", "devices"), [(3, 1), (4, 4)])
def test_the_order_in_which_a_cohort_is_given_changes_no_bit(problem, local, chunk, devices):
    shuffles = np.random.default_rng(0)
    given, ours = (problem.train(local, cohorts, chunk, devices) for cohorts in (
        [ALL] * ROUNDS, [shuffles.permutation(ALL).tolist() for _ in range(ROUNDS)]
    ))  # fmt: skip
    for one, other in zip(jax.tree.leaves(given), jax.tree.leaves(ours), strict=True):
        np.testing.assert_array_equal(one, other)


def test_capacity_that_a_large_neighbour_forces_changes_nothing(make_problem, problem, make_local, expected):
    """The neighbour is there and holds rows; it takes no part."""
    crowded = make_problem([*SIZES, 50])
    roomy = make_local(*plan_batches(BATCH, 50))
    assert roomy.capacity == 52
    assert_close(keys_of(crowded.train(roomy, [ALL] * ROUNDS, chunk=3)[0]), expected, problem.params)


def test_where_a_clients_rows_lie_in_the_data_changes_nothing(problem, local, expected):
    """The data shuffled, and the index rows with it."""
    order = np.random.default_rng(3).permutation(sum(SIZES))
    clients = problem.clients._replace(indices=jnp.asarray(np.argsort(order), jnp.int32))
    data = jax.tree.map(lambda leaf: leaf[order], problem.data)
    moved = problem._replace(clients=clients, data=data)
    np.testing.assert_array_equal(keys_of(moved.train(local, [ALL] * ROUNDS, chunk=1)[0]), expected)


@pytest.mark.parametrize("company", [[4], [0, 5], [1, 2, 3, 4, 5]])
def test_a_clients_own_change_does_not_depend_on_who_else_takes_part(problem, local, company):
    """A cohort's change is the weighted mean of what each of its clients does when it is the only one."""
    start = np.asarray(problem.params.keys)

    def change(cohort: list[int]) -> np.ndarray:
        return keys_of(problem.train(local, [cohort], chunk=3)[0]) - start

    weights = np.array([SIZES[client] for client in company]) / sum(SIZES[client] for client in company)
    mean = sum(weight * change([client]) for weight, client in zip(weights, company, strict=True))
    assert np.abs(change(company) - mean).max() < TOLERANCE
    assert np.abs(mean).max() > 1e3 * TOLERANCE


def test_loss_and_examples_of_a_round_do_not_depend_on_the_chunk(problem, local):
    one, all_at_once = (problem.train(local, [ALL], chunk)[1] for chunk in (1, 6))
    np.testing.assert_allclose(one.train_loss, all_at_once.train_loss, rtol=1e-6)
    assert int(one.examples) == int(all_at_once.examples) == sum(SIZES)


def test_chunks_are_cut_from_the_largest_client_down(problem):
    """So that the clients of a chunk wait little for each other; those who are absent come last and hold nothing."""
    chosen, counts = by_size(problem.cohort([0, 4, 1, 5, 2]), problem.clients)
    np.testing.assert_array_equal(chosen[:5], [2, 5, 4, 1, 0])
    np.testing.assert_array_equal(counts, [12, 12, 9, 7, 1, 0])


def test_an_order_is_a_permutation_that_more_capacity_does_not_change():
    key = jax.random.key(0)
    for count in (0, 1, 5, 12):
        orders = [np.asarray(shuffled(key, count, capacity))[:count] for capacity in (12, 13, 64)]
        assert sorted(orders[0]) == list(range(count))
        for order in orders[1:]:
            np.testing.assert_array_equal(order, orders[0])


def test_orders_differ_between_keys():
    first, second = (np.asarray(shuffled(jax.random.key(seed), 12, 12)) for seed in (0, 1))
    assert (first != second).any()


@pytest.mark.parametrize(
    ("batch_size", "largest", "planned"), [(4, 12, (4, 12)), (4, 13, (4, 16)), (0, 13, (13, 13)), (32, 13, (13, 13)),
                                           (1, 3, (1, 3)), (0, 0, (1, 1))]
)  # fmt: skip
def test_batches_are_planned_for_the_largest_client(batch_size, largest, planned):
    assert plan_batches(batch_size, largest) == planned


def test_a_drawn_cohort_is_a_subset_that_run_seed_and_round_decide():
    cohort = draw_cohort(seed=0, round_number=3, clients=100, size=10)
    drawn = np.asarray(cohort.clients)
    assert int(cohort.size) == len(set(drawn.tolist())) == 10
    assert drawn.min() >= 0
    assert drawn.max() < 100
    np.testing.assert_array_equal(drawn, draw_cohort(0, 3, 100, 10).clients)
    assert set(drawn.tolist()) != set(np.asarray(draw_cohort(0, 4, 100, 10).clients).tolist())
    assert set(drawn.tolist()) != set(np.asarray(draw_cohort(1, 3, 100, 10).clients).tolist())


@pytest.mark.parametrize("size", [0, 6])
def test_a_cohort_of_size_0_or_of_all_is_everybody(size):
    for found, expected in zip(draw_cohort(0, 0, 6, size), everybody(6), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("chunk", "devices"), [(0, 1), (-1, 1), (3, 4)])
def test_a_chunk_that_cannot_be_spread_is_refused(problem, local, chunk, devices):
    with pytest.raises(ValueError, match=f"client_chunk {chunk} is not a multiple of {devices}"):
        problem.round(local, chunk, devices)
