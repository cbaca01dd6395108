"""A partition brought along: taken as it is, or refused with the first thing that is wrong with it."""

import numpy as np
import pytest

from cachefl_jax import machine
from cachefl_jax.config import default
from cachefl_jax.data.partition import make_partition, partition_hash
from cachefl_jax.errors import UsageError
from cachefl_jax.storage.files import write_arrays

LABELS = np.arange(12) % 3
GOOD = {"offsets": np.array([0, 5, 6, 12]), "indices": np.arange(12)[::-1]}


def given(path, clients: int = 0, **changes):
    config = default().partition
    config.update({"name": "given", "clients": clients, "path": str(path), **changes})
    return make_partition(LABELS, config, 0)


def test_a_file_is_taken_as_it_is(tmp_path):
    path = tmp_path / "partition.npz"
    np.savez(path, offsets=GOOD["offsets"].astype(np.int32), indices=GOOD["indices"].astype(np.uint8))
    partition = given(path)
    np.testing.assert_array_equal(partition.offsets, GOOD["offsets"])
    np.testing.assert_array_equal(partition.indices, GOOD["indices"])
    assert partition.indices.dtype == partition.offsets.dtype == np.int64
    assert partition.repairs == 0


def test_what_a_run_leaves_can_be_handed_to_another(tmp_path):
    config = default().partition
    config.update({"clients": 4})
    first = make_partition(LABELS, config, 3)
    counts = np.zeros((4, 3), int)  # a run's file has this besides
    write_arrays(tmp_path / "p.npz", {"offsets": first.offsets, "indices": first.indices, "class_counts": counts})
    assert partition_hash(given(tmp_path / "p.npz", clients=4)) == partition_hash(first)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"offsets": None}, r"offsets: got no such array; allowed: an array of that name \(the file has indices\)"),
        ({"indices": None}, r"indices: got no such array"),
        ({"indices": np.arange(12.0)}, r"indices: got shape \(12,\) of float64; allowed: one row of whole numbers"),
        ({"indices": np.ones(12, bool)}, r"indices: got shape \(12,\) of bool"),
        ({"offsets": np.array([[0, 5, 6, 12]])}, r"offsets: got shape \(1, 4\) of int64"),
        ({"indices": np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 5, 11])}, r"indices: got row 5 2 times among 12"),
        ({"indices": np.arange(11), "offsets": np.array([0, 11])}, r"indices: got row 11 0 times among 11"),
        ({"indices": np.arange(13), "offsets": np.array([0, 13])}, r"indices: got 12 at place 12; allowed: each of 0"),
        ({"indices": np.arange(12) - 1}, r"indices: got -1 at place 0"),
        ({"indices": np.zeros(0, int), "offsets": np.zeros(1, int)}, r"indices: got row 0 0 times among 0"),
        ({"offsets": np.array([0, 6, 5, 12])}, r"offsets: got 5 after 6 at place 2; allowed: rising from 0 to 12"),
        ({"offsets": np.array([0, 6, 5, 12], np.uint64)}, r"offsets: got 5 after 6 at place 2"),
        ({"offsets": np.array([1, 5, 12])}, r"offsets: got 3 offsets from 1 to 12"),
        ({"offsets": np.array([0, 5, 11])}, r"offsets: got 3 offsets from 0 to 11"),
        ({"offsets": np.zeros(0, int)}, r"offsets: got 0 offsets; allowed"),
    ],
)
def test_a_file_at_odds_with_the_rows_is_refused_in_one_line(tmp_path, changes, match):
    path = tmp_path / "partition.npz"
    np.savez(path, **{name: array for name, array in (GOOD | changes).items() if array is not None})
    with pytest.raises(UsageError, match=rf"^partition\.path: .*partition\.npz: {match}") as caught:
        given(path)
    assert "\n" not in str(caught.value)


def test_no_file_or_an_unreadable_one_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"^partition.path: got ''; allowed: a partition.npz"):
        given("")
    with pytest.raises(UsageError, match=r"^partition.path: .*allowed: an existing .npz file"):
        given(tmp_path / "nowhere.npz")
    np.savez(tmp_path / "cut.npz", **GOOD)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:-30])
    with pytest.raises(UsageError, match=r"^partition.path: .*cannot be read as .npz"):
        given(tmp_path / "cut.npz")
    np.savez(tmp_path / "objects.npz", offsets=np.array([0, 12], object), indices=np.arange(12))
    with pytest.raises(UsageError, match=r"^partition.path: .*holds pickled objects"):
        given(tmp_path / "objects.npz")


def test_other_clients_than_the_config_says_are_refused(tmp_path):
    path = tmp_path / "partition.npz"
    np.savez(path, **GOOD)
    with pytest.raises(UsageError, match=r"^partition.clients: got 20; allowed: 0 or 3, the clients in the file"):
        given(path, clients=20)
    with pytest.raises(UsageError, match=r"^partition.least: got 2; allowed: at most 1, what client 1 of the clients"):
        given(path, least=2)


def test_clients_without_rows_are_told_as_such_and_can_be_left_out(tmp_path):
    """ "partition.least: at most 0" named a field that may not be 0."""
    path, offsets = tmp_path / "partition.npz", np.array([0, 5, 5, 6, 6, 12])
    np.savez(path, offsets=offsets, indices=np.arange(12))
    told = r"^partition.path: got .*npz: client 1 without rows; allowed: one row or more .*\(2 of 5 have none\)"
    with pytest.raises(UsageError, match=told):
        given(path)
    np.savez(path, offsets=offsets[np.diff(offsets, prepend=-1) > 0], indices=np.arange(12))  # the mend
    assert given(path).sizes.tolist() == [5, 1, 6]


def test_a_file_that_claims_more_than_it_holds_or_than_fits_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "partition.npz"
    np.savez(path, **GOOD, other=np.array([{}], object))  # what is not asked for is not read
    assert given(path).clients == 3
    monkeypatch.setattr(machine, "free_memory", lambda: 100)
    with pytest.raises(UsageError, match=r"^partition.path: got .*\(takes 128 bytes\)"):
        given(path)
