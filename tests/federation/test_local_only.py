"""Clients that never hear from each other: many in one call, each as it would be alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from host_reads import host_reads
from plain_local_only import plain_training

from cachefl_jax.federation import (
    NOBODY,
    Plan,
    make_local_only,
    make_scores_of_each,
    place,
    place_locally,
    plan_batches,
    score_rows,
    seen_locally,
    split_by_size,
    start_all,
)
from cachefl_jax.federation.participation import deal
from cachefl_jax.methods.cachefl import Cache, cachefl

pytestmark = pytest.mark.quick
SIZES, ROUNDS = [1, 7, 12, 3, 9, 0, 12], 4


@pytest.fixture(scope="module")
def federation(make_federation):
    return make_federation(SIZES, scattered=True)


@pytest.fixture(scope="module")
def local(make_local):
    """Mini-batches of AdamW; among the clients are some of no row, of one, of fewer than a batch, of a row over."""
    return make_local(*plan_batches(4, max(SIZES)))


@pytest.fixture(scope="module")
def expected(federation, local) -> np.ndarray:
    """[C, N, K, D] by the plain loop."""
    train = plain_training(local, federation.problem)
    return np.stack([train(federation.params, client, ROUNDS).keys for client in range(len(SIZES))])


@pytest.mark.parametrize(("lanes", "devices"), [(1, 1), (3, 1), (1, 4), (2, 2)])
def test_every_client_ends_where_the_plain_loop_ends_however_the_rounds_are_cut(
    federation, local, expected, lanes, devices
):
    train, problem = make_local_only(local, lanes, devices), place_locally(federation.problem, devices)
    (clients,) = split_by_size(np.asarray(SIZES), len(SIZES) + lanes * devices, lanes * devices)
    clients = deal(clients, devices).reshape(-1)
    ends = []
    for cuts in ([ROUNDS], [1, 3]):
        params, first = start_all(federation.params, len(clients), devices), 0
        for count in cuts:
            before = params
            params, finite = train(params, clients, np.int32(first), np.int32(count), problem)
            assert before.keys.is_deleted()
            assert np.asarray(finite).all()
            first += count
        ends.append(np.asarray(params.keys))
    np.testing.assert_array_equal(ends[0], ends[1])
    found = ends[0][np.argsort(clients)[(clients == NOBODY).sum() :]]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    start = np.asarray(federation.params.keys)
    assert np.abs(found[np.asarray(SIZES) > 0] - start).max(axis=(1, 2, 3)).min() > 1e-3
    np.testing.assert_array_equal(found[SIZES.index(0)], start)


@pytest.mark.parametrize(("devices", "beside_an_engine"), [(1, True), (2, False)])
def test_all_calls_are_one_compilation(federation, local, caplog, devices, beside_an_engine):
    problem = place_locally(federation.problem, devices)
    if beside_an_engine:
        problem = seen_locally(place(federation.problem, Plan(devices=2)), devices)
    train = make_local_only(local, 1, devices)
    with jax.log_compiles(), caplog.at_level("WARNING"):
        params, clients = start_all(federation.params, 2, devices), np.asarray([2, 6], np.int32)
        for number in range(3):
            params, _ = train(params, clients, np.int32(number), np.int32(1), problem)
    messages = [record.getMessage() for record in caplog.records]
    assert sum(message.startswith("Compiling jit(train)") for message in messages) == 1


def test_it_equals_a_federation_of_which_the_client_is_the_only_one(federation, local, expected):
    for client in (1, 4):
        federated = federation.train(local, [[client]] * ROUNDS, Plan("chunk", 3))[0].params
        np.testing.assert_allclose(expected[client], federated.keys, rtol=0, atol=1e-6)


def test_scores_are_those_of_each_clients_own_params(federation):
    devices = 4
    data = federation.problem.data
    splits = [data, jax.tree.map(lambda leaf: leaf[:5], data)]
    stacked = Cache(jnp.stack([federation.params.keys * scale for scale in (1.0, -1.0, 0.1, 1e30)]))
    problem = place_locally((federation.problem.frozen, splits), devices)
    found = make_scores_of_each(cachefl.logits, devices)(stacked, *problem)
    for scores, rows in zip(found, splits, strict=True):
        for number, keys in enumerate(stacked.keys):
            own = score_rows(cachefl.logits, False, Cache(keys), federation.problem.frozen, rows)
            assert scores.right[number].tolist() == own.right.tolist()
            assert scores.finite[number] == own.finite
    assert found[0].finite.tolist() == [True, True, True, False]


def test_one_client_that_does_not_stay_finite_is_told_of_itself_alone(federation, make_local):
    local = make_local(12, 12, "sgd", epochs=1)
    features = federation.problem.data.features.at[federation.problem.clients.indices[0]].set(np.inf)
    problem = federation.problem._replace(data=federation.problem.data._replace(features=features))
    clients = np.asarray([1, 0, NOBODY], np.int32)
    params = start_all(federation.params, 3)
    _, finite = make_local_only(local, 1)(params, clients, np.int32(0), np.int32(1), problem)
    assert finite.tolist() == [True, False, True]


def test_a_client_of_more_rows_than_capacity_is_refused(federation, make_local):
    with pytest.raises(ValueError, match=r"client 2 has 12 rows; LocalTraining.capacity is 8"):
        make_local_only(make_local(4, 8), 1)(
            start_all(federation.params, 1), np.zeros(1, np.int32), np.int32(0), np.int32(1), federation.problem
        )


def test_small_clients_beside_a_large_one_have_a_program_of_their_own_and_end_where_the_plain_loop_does(
    make_federation, make_local
):
    sizes = [3, 4500, 300, 8]
    federation, local = make_federation(sizes), make_local(4, 4500, epochs=1)
    clients = np.asarray([1, 2, 3, 0, NOBODY, NOBODY], np.int32)
    params = start_all(federation.params, len(clients))
    params, finite = make_local_only(local, 2)(params, clients, np.int32(0), np.int32(2), federation.problem)
    train = plain_training(local, federation.problem)
    assert finite.all()
    for seat, client in enumerate(clients[:4]):
        expected = train(federation.params, int(client), 2)
        np.testing.assert_allclose(params.keys[seat], expected.keys, rtol=0, atol=1e-5)
        assert np.abs(np.asarray(params.keys[seat] - federation.params.keys)).max() > 1e-4


@pytest.mark.parametrize(
    ("optimizer", "epochs", "sizes"),
    [("adamw", 2, SIZES), ("sgd", 1, [*range(1, 32, 3)]), ("adamw", 1, [9])],
    ids=["few sizes", "many sizes", "one client"],
)
def test_clients_of_known_rows_end_where_the_plain_loop_does_and_no_loop_of_theirs_asks_the_host(
    make_federation, make_local, optimizer, epochs, sizes
):
    more = {"proximal": True} if optimizer == "sgd" else {}
    federation = make_federation(sizes, scattered=True)
    local = make_local(*plan_batches(4, max(sizes)), optimizer, epochs, **more)
    (clients,) = split_by_size(np.asarray(sizes), len(sizes), len(sizes))
    rows = tuple(sorted(sizes, reverse=True))
    train = make_local_only(local, len(sizes), 1, rows)
    params = start_all(federation.params, len(sizes))
    counts = np.int32(0), np.int32(ROUNDS)
    program = train.lower(params, clients, *counts, federation.problem).compile()
    assert host_reads(program.as_text()) == 1  # the loop over rounds
    params, finite = train(params, clients, *counts, federation.problem)
    assert finite.all()
    plain = plain_training(local, federation.problem)
    for seat, client in enumerate(clients):
        expected = plain(federation.params, int(client), ROUNDS).keys
        np.testing.assert_allclose(params.keys[seat], expected, rtol=0, atol=1e-6)
        moved = np.abs(np.asarray(params.keys[seat] - federation.params.keys)).max()
        assert moved > 1e-4 if sizes[client] else moved == 0
    others = make_local_only(local, len(sizes), 1, tuple(size + 1 for size in rows))
    with pytest.raises(ValueError, match="must have the rows"):
        others(params, clients, *counts, federation.problem)


def test_another_order_than_that_of_size_is_refused(federation, local):
    for clients in ([1, 2], [NOBODY, 1], [2, 0, 1, 3]):
        params, clients = start_all(federation.params, len(clients)), np.asarray(clients, np.int32)
        with pytest.raises(ValueError, match="in order of size, the largest first"):
            make_local_only(local, 1)(params, clients, np.int32(0), np.int32(1), federation.problem)


def test_clients_are_cut_into_calls_of_one_length_the_largest_first():
    sizes = np.asarray([5, 9, 1, 7, 3])
    parts = split_by_size(sizes, 3, 1)
    assert [part.tolist() for part in parts] == [[1, 3, 0], [4, 2, NOBODY]]
    assert [len(part) for part in split_by_size(np.arange(1000), 400, 8)] == [336] * 3
    assert [part.tolist() for part in split_by_size(sizes, 1, 4)] == [[1, 3, 0, 4], [2, NOBODY, NOBODY, NOBODY]]


def test_what_lies_on_the_devices_already_is_not_copied(federation):
    placed = place(federation.problem.data, Plan(devices=2))
    for devices in (1, 2):
        found = seen_locally(placed, devices)
        assert found.features.sharding.device_set == set(jax.local_devices()[:devices])
        pointers = [part.data.unsafe_buffer_pointer() for part in found.features.addressable_shards]
        assert pointers == [part.data.unsafe_buffer_pointer() for part in placed.features.addressable_shards][:devices]
    assert seen_locally(placed, 3) is None
