"""Who holds what: every row once, nobody short, each scheme's own promise, and the same bits as ever."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachefl_jax.config import default
from cachefl_jax.data.partition import everything, make_partition, partition_hash, repaired
from cachefl_jax.errors import UsageError

DEALT = ("iid", "dirichlet", "pathological", "shards", "quantity")


def settings_of(name: str, clients: int, **changes):
    config = default().partition
    config.update({"name": name, "clients": clients, **changes})
    return config


def labels_of(classes: int, per_class: int) -> np.ndarray:
    return np.random.default_rng(0).permutation(np.repeat(np.arange(classes), per_class))


def uneven_labels(classes: int, rows: int, seed: int) -> np.ndarray:
    """Some classes are rare, and some may be missing."""
    rng = np.random.default_rng(seed)
    return rng.choice(classes, size=rows, p=rng.dirichlet(np.ones(classes)))


@settings(max_examples=200, deadline=None)
@given(
    name=st.sampled_from((*DEALT, "natural")),
    over=st.sampled_from(("classes", "clients")),
    quantity=st.sampled_from(("log_normal", "power_law", "dirichlet")),
    rows=st.integers(1, 400),
    classes=st.integers(1, 30),
    clients=st.integers(1, 60),
    concentration=st.floats(1e-320, 1e300),
    spread=st.floats(0, 50),
    shards=st.integers(1, 5),
    least=st.integers(0, 8),
    seed=st.integers(0, 2**31),
)
def test_every_row_belongs_to_one_client_and_every_client_has_enough(
    name, over, quantity, rows, classes, clients, concentration, spread, shards, least, seed
):
    labels = uneven_labels(classes, rows, seed)
    clients = min(clients, rows)
    least = min(max(least, 1), rows // clients)
    held = -(-len(np.unique(labels)) // clients)
    config = settings_of(
        name, clients, over=over, quantity=quantity, concentration=concentration, spread=spread,
        shards_per_client=shards, classes_per_client=held, least=least,
    )  # fmt: skip
    groups = None
    if name == "natural":
        groups = np.repeat(np.arange(clients), rows // clients)
        groups = np.append(groups, np.zeros(rows - len(groups), int))
    partition = make_partition(labels, config, seed, groups)
    assert partition.offsets.dtype == partition.indices.dtype == np.int64
    assert np.array_equal(np.sort(partition.indices), np.arange(rows))
    assert partition.clients == clients
    assert partition.sizes.min() >= least
    assert 0 <= partition.repairs <= clients * least
    assert partition_hash(make_partition(labels, config, seed, groups)) == partition_hash(partition)


@pytest.mark.parametrize(
    ("name", "changes"),
    [*((name, {}) for name in DEALT), ("dirichlet", {"over": "clients"}), ("quantity", {"quantity": "power_law"})],
)
def test_another_seed_deals_otherwise(name, changes):
    labels = labels_of(10, 30)
    hashes = {partition_hash(make_partition(labels, settings_of(name, 6, **changes), seed)) for seed in range(4)}
    assert len(hashes) == 4


def test_the_demos_partition_keeps_its_bits():
    """As the first release dealt the digits out; with 100 clients two rows changed hands."""
    labels = digits_labels()
    recorded = {
        ("dirichlet", 20): "d6c8ba738343ee73b0b06c3488cf40db57154bb7a35f0e9ed33e29e82a78967a",
        ("dirichlet", 100): "40dfe7311d6ad1f415de8df7495800d30d5c8f37c3a644db1b7922cc7bef7f4b",
        ("iid", 20): "52ad2f590a9b08a10df71cef759f21f14bb91446d6f1016ac5deafe3e97b810d",
        ("pathological", 20): "5f1efad8520b7ac3b31dd5c43cba841b7fcdc6e27a0f58b37bf3c68b973c170a",
    }
    partitions = {key: make_partition(labels, settings_of(*key), 0) for key in recorded}
    assert {key: partition_hash(partition) for key, partition in partitions.items()} == recorded
    repaired_rows = {key: partition.repairs for key, partition in partitions.items() if partition.repairs}
    assert repaired_rows == {("dirichlet", 100): 2}


def digits_labels() -> np.ndarray:
    """Labels of the digits' training rows, with no image prepared."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    labels = load_digits().target
    rest, _ = train_test_split(np.arange(len(labels)), test_size=0.25, stratify=labels, random_state=0)
    train, _ = train_test_split(rest, test_size=0.2, stratify=labels[rest], random_state=0)
    return labels[np.sort(train)]


def one_by_one(owners: np.ndarray, clients: int, least: int) -> np.ndarray:
    """The rule of repairs in plain words: who is short takes the last row of whoever then has most."""
    owners = owners.copy()
    for client in range(clients):
        while (owners == client).sum() < least:
            richest = int(np.bincount(owners, minlength=clients).argmax())
            owners[np.flatnonzero(owners == richest)[-1]] = client
    return owners


@pytest.mark.parametrize("least", [0, 1, 2, 4])
@pytest.mark.parametrize("seed", range(20))
def test_repairs_take_from_the_largest_and_no_more_than_is_missing(seed, least):
    rng = np.random.default_rng(seed)
    clients = int(rng.integers(2, 15))
    owners = rng.choice(clients, size=clients * 4 + int(rng.integers(20)), p=rng.dirichlet(np.full(clients, 0.3)))
    partition = repaired(owners, clients, least)
    np.testing.assert_array_equal(partition.owners, one_by_one(owners, clients, least))
    missing = np.maximum(least - np.bincount(owners, minlength=clients), 0).sum()
    assert partition.repairs == missing == (partition.owners != owners).sum()


def test_owners_are_the_partition_read_the_other_way():
    owners = np.array([2, 0, 0, 1, 2, 0])
    partition = repaired(owners, 3, 1)
    np.testing.assert_array_equal(partition.owners, owners)
    np.testing.assert_array_equal(partition.sizes, [3, 1, 2])


def test_the_hash_is_of_the_numbers_whatever_holds_them():
    partition = make_partition(labels_of(3, 10), settings_of("iid", 4), 0)
    narrow = partition._replace(offsets=partition.offsets.astype(">i4"), indices=partition.indices.astype(np.uint16))
    assert partition_hash(narrow) == partition_hash(partition)
    assert partition_hash(partition._replace(repairs=5)) == partition_hash(partition)
    assert partition_hash(partition._replace(indices=partition.indices[::-1])) != partition_hash(partition)


def test_sites_are_the_clients():
    groups = np.array([7, 3, 7, 7, 40, 3])
    partition = make_partition(np.zeros(6, int), settings_of("natural", 0), 0, groups)
    assert [list(rows) for rows in np.split(partition.indices, partition.offsets[1:-1])] == [[1, 5], [0, 2, 3], [4]]
    assert partition.repairs == 0
    again = make_partition(np.zeros(6, int), settings_of("natural", 3), 9, groups)
    assert partition_hash(again) == partition_hash(partition)


def test_everything_is_one_client():
    assert np.array_equal(everything(5).sizes, [5])


@pytest.mark.parametrize("name", DEALT)
def test_a_client_for_every_row_is_dealt_in_time(name):
    """200,000 at once, which row by row would take hours; cachefl_jax/data/partition.py tells of 1,000,000."""
    rows = 200_000
    partition = make_partition(np.arange(rows) % 10, settings_of(name, rows, shards_per_client=2), 0)
    assert (partition.sizes == 1).all()


SITES = np.array([0, 0, 0, 1, 1, 2] * 5)


@pytest.mark.parametrize(
    ("config", "groups", "match"),
    [
        (settings_of("iid", 31), None, r"^partition.clients: got 31; allowed: 1 to 30"),
        (settings_of("iid", 0), None, r"^partition.clients: got 0; allowed: 1 to 30"),
        (settings_of("iid", 7, least=5), None, r"^partition.least: got 5; allowed: 1 to 4, for 30 training rows at 7"),
        (settings_of("pathological", 2, classes_per_client=1), None, r"classes_per_client: got 1; allowed: at least 2"),
        (settings_of("pathological", 5, classes_per_client=4), None, r"classes_per_client: got 4; allowed: 1 to 3"),
        (settings_of("even", 5), None, r"^partition.name: got even; allowed: iid \| dirichlet \| .*natural \| given"),
        (settings_of("dirichlet", 5, over="rows"), None, r"^partition.over: got rows; allowed: classes \| clients"),
        (settings_of("quantity", 5, quantity="even"), None, r"^partition.quantity: got even; allowed: log_normal \|"),
        (settings_of("natural", 0), None, r"^partition.name: got natural; .*mend: set data.group_column"),
        (settings_of("natural", 20), SITES, r"^partition.clients: got 20; allowed: 0 or 3, the sites in the data"),
        (settings_of("natural", 3, least=6), SITES, r"^partition.least: got 6; allowed: at most 5, what client 2 of"),
    ],
)
def test_what_cannot_be_dealt_is_refused_in_one_line(config, groups, match):
    with pytest.raises(UsageError, match=match) as caught:
        make_partition(labels_of(3, 10), config, 0, groups)
    assert "\n" not in str(caught.value)
