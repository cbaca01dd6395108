"""Who holds what: every row once, no client without rows, and each scheme's own promise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from cachefl_jax.data.partition import class_counts, draw_shares, everything, partition
from cachefl_jax.errors import UsageError


def settings_of(name: str, clients: int, concentration: float = 0.1, classes_per_client: int = 2) -> ConfigDict:
    fields = {"clients": clients, "concentration": concentration, "classes_per_client": classes_per_client}
    return ConfigDict({"name": name, **fields})


def labels_of(classes: int, per_class: int) -> np.ndarray:
    return np.random.default_rng(0).permutation(np.repeat(np.arange(classes), per_class))


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(["iid", "dirichlet", "pathological"]),
    clients=st.integers(1, 40),
    classes=st.integers(1, 12),
    per_class=st.integers(4, 30),
    concentration=st.floats(1e-4, 1e4),
    seed=st.integers(0, 2**31),
)
def test_every_row_belongs_to_one_client_and_no_client_is_empty(name, clients, classes, per_class, concentration, seed):
    labels = labels_of(classes, per_class)
    clients = min(clients, len(labels))
    config = settings_of(name, clients, concentration, classes_per_client=classes)
    division = partition(labels, config, seed)
    assert np.array_equal(np.sort(division.indices), np.arange(len(labels)))
    assert division.clients == clients
    assert division.sizes.min() >= 1
    again = partition(labels, config, seed)
    assert np.array_equal(division.indices, again.indices)


def test_iid_shares_differ_by_at_most_one_row():
    division = partition(labels_of(10, 33), settings_of("iid", 7), 0)
    assert division.sizes.max() - division.sizes.min() <= 1


def test_dirichlet_shares_follow_the_distribution():
    """The share of a class at one client has mean 1/C and variance (1/C)(1 - 1/C)/(C a + 1), Dirichlet's own."""
    clients, concentration, classes, per_class = 5, 0.5, 400, 200
    division = partition(labels_of(classes, per_class), settings_of("dirichlet", clients, concentration), 0)
    shares = class_counts(division, labels_of(classes, per_class), classes) / per_class
    expected = (1 / clients) * (1 - 1 / clients) / (clients * concentration + 1)
    assert abs(shares.mean() - 1 / clients) < 1e-9
    assert abs(shares.var() / expected - 1) < 0.1


def test_smaller_concentrations_leave_clients_fewer_classes():
    labels = labels_of(10, 100)

    def effective(concentration: float) -> float:
        counts = class_counts(partition(labels, settings_of("dirichlet", 20, concentration), 0), labels, 10)
        shares = counts / counts.sum(axis=1, keepdims=True)
        entropy = -(shares * np.log(np.maximum(shares, 1e-30))).sum(axis=1)
        return float(np.exp(entropy).mean())

    assert effective(0.01) < effective(0.1) < effective(1.0) < effective(100.0)
    assert effective(0.01) < 2
    assert effective(100.0) > 9


@pytest.mark.parametrize("concentration", [1e-300, 1e-6, 1e6, 1e300])
def test_shares_are_finite_at_any_concentration(concentration):
    shares = draw_shares(np.random.default_rng(0), 50, concentration)
    assert np.isfinite(shares).all()
    np.testing.assert_allclose(shares.sum(), 1)


@pytest.mark.parametrize(("clients", "held"), [(10, 2), (7, 3), (20, 1), (3, 10)])
def test_pathological_clients_hold_few_classes_and_all_classes_are_held(clients, held):
    labels = labels_of(10, 60)
    counts = class_counts(
        partition(labels, settings_of("pathological", clients, classes_per_client=held), 0), labels, 10
    )
    assert (counts > 0).sum(axis=1).max() <= held
    assert (counts.sum(axis=0) == 60).all()


def test_another_seed_deals_otherwise():
    labels = labels_of(10, 30)
    first, second = (partition(labels, settings_of("dirichlet", 5), seed) for seed in (0, 1))
    assert not np.array_equal(first.indices, second.indices)


def test_everything_is_one_client():
    assert np.array_equal(everything(5).sizes, [5])


@pytest.mark.parametrize(
    ("config", "match"),
    [
        (settings_of("iid", 31), r"partition.clients: got 31; allowed: 1 to 30"),
        (settings_of("pathological", 2, classes_per_client=1), r"classes_per_client: got 1; allowed: at least 2"),
        (settings_of("pathological", 5, classes_per_client=4), r"classes_per_client: got 4; allowed: 1 to 3"),
    ],
)
def test_what_cannot_be_dealt_is_refused(config, match):
    with pytest.raises(UsageError, match=match):
        partition(labels_of(3, 10), config, 0)
