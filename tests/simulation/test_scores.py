"""Figures over the clients against dense NumPy, and how test rows are dealt."""

import numpy as np
import pytest

from cachefl_jax.data.card import Cells
from cachefl_jax.federation import Figures
from cachefl_jax.simulation.scores import OwnRows, notes_on_clients, over_clients, own_rows, rounds_to

CLIENTS, CLASSES = 12, 6


@pytest.fixture(scope="module")
def counts():
    """[C, N] training rows; client 3 holds none, client 5 the last class alone, and nobody holds class 1."""
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 20, (CLIENTS, CLASSES)) * (rng.random((CLIENTS, CLASSES)) < 0.6)
    counts[3], counts[5], counts[:, 1] = 0, 0, 0
    counts[5, -1] = 7
    return counts


@pytest.fixture(scope="module")
def labels():
    """[n] of the test rows, none of the last class."""
    return np.random.default_rng(1).permutation(np.repeat(np.arange(CLASSES - 1), [30, 4, 17, 1, 25]))


def cells(counts: np.ndarray) -> Cells:
    client, label = np.nonzero(counts)
    return Cells(client, label, counts[client, label], *counts.shape)


def told(class_accuracy: np.ndarray) -> Figures:
    return Figures(*[np.full(class_accuracy.shape[:-1], 0.5)] * 4, class_accuracy)


def expected(counts: np.ndarray, class_accuracy: np.ndarray) -> np.ndarray:
    """Shares [C, N] of the classes that have test rows, times their accuracies, one by one."""
    known = ~np.isnan(class_accuracy)
    with np.errstate(invalid="ignore"):
        shares = counts * known / (counts * known).sum(axis=1, keepdims=True)
    return (shares * np.nan_to_num(class_accuracy)).sum(axis=1)


def test_each_client_is_scored_by_its_own_label_distribution(counts, labels):
    rng = np.random.default_rng(2)
    each = rng.random((CLIENTS, CLASSES))
    each[:, -1] = np.nan
    own = own_rows(cells(counts), labels, None)
    found = own.accuracies(told(each[0]), None)
    np.testing.assert_allclose(found, expected(counts, each[0]), rtol=1e-12)
    assert np.flatnonzero(np.isnan(found)).tolist() == [3, 5]
    some = np.asarray([7, 3, 0, 11])  # in any order, with models of their own
    found = own.accuracies(told(each[some]), None, some)
    np.testing.assert_allclose(found, [expected(counts, each[client])[client] for client in some], rtol=1e-12)


def test_test_rows_are_dealt_by_the_shares_of_their_class_to_a_row(counts, labels):
    deals = [own_rows(cells(counts), labels, seed) for seed in (0, 0, 1)]
    assert deals[0].cells.label.tolist() == deals[1].cells.label.tolist() != deals[2].cells.label.tolist()
    dealt = deals[0].cells
    rows = np.bincount(dealt.label, minlength=len(labels))
    assert rows.tolist() == (labels != 1).astype(int).tolist()  # each once, but for the class that nobody holds
    got = np.zeros_like(counts)
    np.add.at(got, (dealt.client, labels[dealt.label]), 1)
    fair = counts / np.maximum(counts.sum(axis=0), 1) * np.bincount(labels, minlength=CLASSES)
    assert (np.abs(got - fair) < 1).all()


def test_dealt_rows_are_scored_one_by_one(counts, labels):
    own, rng = own_rows(cells(counts), labels, 0), np.random.default_rng(3)
    correct = rng.random((CLIENTS, len(labels))) < 0.5
    held = [own.cells.label[own.cells.client == client] for client in range(CLIENTS)]
    each = [correct[0][rows].mean() if len(rows) else np.nan for rows in held]
    np.testing.assert_allclose(own.accuracies(told(np.ones(CLASSES)), correct[0]), each, rtol=1e-12)
    some = np.asarray([10, 4, 3])
    each = [correct[client][held[client]].mean() if len(held[client]) else np.nan for client in some]
    found = own.accuracies(told(np.ones((3, CLASSES))), correct[some], some)
    np.testing.assert_allclose(found, each, rtol=1e-12)


def test_more_clients_than_test_rows_share_what_there_is():
    own = own_rows(cells(np.ones((100, 1), int)), np.zeros(8, int), 0)
    assert len(np.unique(own.cells.client)) == 8
    accuracies = own.accuracies(told(np.ones(1)), np.arange(8) < 6)
    assert over_clients(accuracies) == {"mean": 0.75, "worst_tenth": 0.0, "std": pytest.approx(3**0.5 / 4)}


def test_the_worst_tenth_is_rounded_up_and_clients_without_rows_are_left_out():
    accuracies = np.append(np.arange(11) / 10, np.nan)
    assert over_clients(accuracies) == pytest.approx({"mean": 0.5, "worst_tenth": 0.05, "std": 0.1**0.5})
    assert over_clients(np.full(3, np.nan)) == {"mean": None, "worst_tenth": None, "std": None}


def test_what_the_figures_leave_out_is_told(counts, labels):
    classes, clients = notes_on_clients(own_rows(cells(counts), labels, None))
    assert classes.startswith("1 of 6 classes have no test rows")
    assert clients.startswith("2 of 12 clients have no test rows of their own classes")
    assert notes_on_clients(OwnRows(cells(np.ones((2, 2), int)), False, np.ones(2, int))) == []


@pytest.mark.parametrize(
    ("accuracies", "rounds"),
    [
        ([0.5, 0.58, 0.595, 0.59, 0.6], (10, 10, 20)),
        ([0.5, 0.7, 0.4, 0.45, 0.6], (5, 5, 5)),  # the first, though it is lost again
        ([0.1, 0.1, 0.1, 0.1, 0.3], (20, 20, 20)),
        ([0.5, 0.7, 0.6, 0.5, 0.5], (None, None, None)),
        ([None, 0.2, 0.3, 0.4, 0.5], (None, None, None)),
    ],
)
def test_rounds_to_shares_of_the_final_gain(accuracies, rounds):
    assert rounds_to([0, 5, 10, 15, 20], accuracies) == dict(zip(("90", "95", "99"), rounds, strict=True))
