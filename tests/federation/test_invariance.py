"""What a federation computes does not depend on how it is run.

Four rounds of mini-batch AdamW; keys agree to 1e-6 whatever the chunk, the devices, the capacity and the company.
Where the order of floating-point operations is the same, they agree to the bit.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cachefl_jax.federation import Plan, plan_batches
from cachefl_jax.federation.orders import shuffled
from cachefl_jax.federation.participation import by_size, deal

# One row, fewer than a batch, whole batches, a row over; two of the same size.
SIZES = [1, 7, 12, 3, 9, 12]
BATCH = 4
ROUNDS = 4
TOLERANCE = 1e-6
ALL = list(range(len(SIZES)))
SCAN = Plan("scan")


def keys_of(state) -> np.ndarray:
    return np.asarray(state.params.keys)


def assert_close(found: np.ndarray, expected: np.ndarray, start) -> None:
    """Within 1e-6, after having moved ten thousand times as far."""
    difference, moved = np.abs(found - expected).max(), np.abs(found - np.asarray(start.keys)).max()
    print(f"largest difference of keys {difference:.1e}, after moving {moved:.1e}")
    assert moved > 1e4 * TOLERANCE
    assert difference < TOLERANCE


@pytest.fixture
def federation(make_federation):
    return make_federation(SIZES)


@pytest.fixture
def local(make_local):
    return make_local(*plan_batches(BATCH, max(SIZES)))


@pytest.fixture
def expected(federation, local) -> np.ndarray:
    """Keys after four rounds, one client at a time."""
    return keys_of(federation.train(local, [ALL] * ROUNDS, SCAN)[0])


@pytest.mark.quick
@pytest.mark.parametrize(
    "plan",
    [Plan("chunk", 3), Plan("vmap", 6), Plan("scan", devices=4), Plan("chunk", 2, devices=4)],
    ids=["chunk", "vmap", "scan_on_4", "chunk_on_4"],
)
def test_keys_do_not_depend_on_the_chunk_or_the_devices(federation, local, expected, plan):
    assert_close(keys_of(federation.train(local, [ALL] * ROUNDS, plan)[0]), expected, federation.params)


@pytest.mark.parametrize(
    ("optimizer", "plan"),
    [
        ("adamw", SCAN),
        ("adamw", Plan("chunk", 3)),
        ("adamw", Plan("scan", devices=4)),
        ("sgd", Plan("dual", 2, block_rows=16)),
        ("nesterov", Plan("dual", 1, devices=4, block_rows=8)),
    ],
    ids=["scan", "chunk", "scan_on_4", "dual", "dual_on_4"],
)
def test_the_order_in_which_a_cohort_is_given_changes_no_bit(federation, make_local, optimizer, plan):
    local = make_local(*plan_batches(BATCH, max(SIZES)), optimizer)
    shuffles = np.random.default_rng(0)
    given, ours = (federation.train(local, cohorts, plan) for cohorts in (
        [ALL] * ROUNDS, [shuffles.permutation(ALL).tolist() for _ in range(ROUNDS)]
    ))  # fmt: skip
    for one, other in zip(jax.tree.leaves(given), jax.tree.leaves(ours), strict=True):
        np.testing.assert_array_equal(one, other)
    assert np.abs(keys_of(given[0]) - np.asarray(federation.params.keys)).max() > 1e-3


@pytest.mark.quick
def test_capacity_that_a_large_neighbour_forces_changes_nothing(make_federation, federation, make_local, expected):
    """The neighbour is there and holds rows; it takes no part."""
    crowded = make_federation([*SIZES, 50])
    roomy = make_local(*plan_batches(BATCH, 50))
    assert roomy.capacity == 52
    assert_close(keys_of(crowded.train(roomy, [ALL] * ROUNDS, Plan("chunk", 3))[0]), expected, federation.params)


@pytest.mark.quick
def test_where_a_clients_rows_lie_in_the_data_changes_nothing(federation, local, expected):
    """The data shuffled, and the index rows with it."""
    order = np.random.default_rng(3).permutation(sum(SIZES))
    clients = federation.problem.clients._replace(indices=jnp.asarray(np.argsort(order), jnp.int32))
    moved = federation.changed(clients=clients, data=jax.tree.map(lambda leaf: leaf[order], federation.problem.data))
    np.testing.assert_array_equal(keys_of(moved.train(local, [ALL] * ROUNDS, SCAN)[0]), expected)


@pytest.mark.quick
@pytest.mark.parametrize("company", [[4], [0, 5], [1, 2, 3, 4, 5]])
def test_a_clients_own_change_does_not_depend_on_who_else_takes_part(federation, local, company):
    """A cohort's change is the weighted mean of what each of its clients does when it is the only one."""
    start = np.asarray(federation.params.keys)

    def change(cohort: list[int]) -> np.ndarray:
        return keys_of(federation.train(local, [cohort], Plan("chunk", 3))[0]) - start

    weights = np.array([SIZES[client] for client in company]) / sum(SIZES[client] for client in company)
    mean = sum(weight * change([client]) for weight, client in zip(weights, company, strict=True))
    assert np.abs(change(company) - mean).max() < TOLERANCE
    assert np.abs(mean).max() > 1e3 * TOLERANCE


@pytest.mark.quick
def test_loss_and_examples_of_a_round_do_not_depend_on_the_chunk(federation, local):
    one, all_at_once = (federation.train(local, [ALL], plan)[1] for plan in (SCAN, Plan("vmap", 6)))
    np.testing.assert_allclose(one.train_loss, all_at_once.train_loss, rtol=1e-6)
    assert int(one.examples) == int(all_at_once.examples) == sum(SIZES)


def test_chunks_are_cut_from_the_largest_client_down(federation):
    """So that the clients of a chunk wait little for each other; those who are absent come last and hold nothing."""
    chosen, counts = by_size(federation.cohort([0, 4, 1, 5, 2]), federation.problem.clients)
    np.testing.assert_array_equal(chosen[:5], [2, 5, 4, 1, 0])
    np.testing.assert_array_equal(counts, [12, 12, 9, 7, 1, 0])


@pytest.mark.parametrize("optimizer", ["sgd", "nesterov"])
def test_room_for_larger_clients_changes_no_bit_of_a_run_on_coefficients(make_federation, make_local, optimizer):
    federation, plan = make_federation([150, 40, 90], width=416), Plan("dual", 1, 1, 416)
    ends = []
    for capacity in (160, 416):
        local = make_local(16, capacity, optimizer=optimizer)
        state, _ = federation.train(local, [[0, 1, 2]] * 2, plan)
        ends.append(keys_of(state))
    assert np.abs(ends[0] - np.asarray(federation.params.keys)).max() > 1e-4
    assert (ends[0] == ends[1]).all()


def test_every_device_is_dealt_large_and_small_clients():
    np.testing.assert_array_equal(deal(jnp.asarray([12, 9, 7, 3, 1]), 2), [[12, 3, 1], [9, 7, 0]])


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
