"""A model's figures as a run writes them, those over the clients among them.

A federated model that is right on the average row may still fail some clients. So each client's accuracy is told on its
own label distribution: every class's accuracy on the test rows, weighted by the class's share of the client's training
rows. Or test rows are dealt to the clients by the same shares, and each is scored on its own.

Axis letters: C clients, N classes, n test rows.
"""

import math
from typing import NamedTuple

import numpy as np

from cachefl_jax.data.card import Cells
from cachefl_jax.federation import Figures, Scores, figures
from cachefl_jax.storage.run_files import OVER_CLIENTS, SCALARS, UNSCORED

ROUNDING = 1e-9  # by which shares of rows that are equal may differ
RIGHT = "test_rows"  # among figures, `Right`: only in memory, where somebody asks for it


class Right(NamedTuple):
    """Of each test row, how many models have it right."""

    counts: np.ndarray  # [n] whole numbers
    models: int
    predicted: np.ndarray | None = None  # [n] classes: by the one model, or of several by that of the row's own site


class OwnRows(NamedTuple):
    """Which test rows stand for each client, and how much they count.

    Attributes:
        cells: what counts at each client: classes, by its training rows of them; or, dealt, its test rows, 1 each.
        dealt: whether test rows were dealt to the clients, or came from them.
        rows: [N] test rows of each class.
        sites: [n] the client that each test row came from, -1 for none; None where they came from no client.
        validation: [m] the same of the validation rows.
    """

    cells: Cells
    dealt: bool
    rows: np.ndarray
    sites: np.ndarray | None = None
    validation: np.ndarray | None = None

    def accuracies(self, told: Figures, correct: np.ndarray | None, clients: np.ndarray | None = None) -> np.ndarray:
        """[C] each client's accuracy on its own rows, NaN where it has none: a class without test rows is left out.

        Args:
            told: of one model; or, with `clients` [M], of a model each, [M, ...].
            correct: `Scores.correct` of the same.
            clients: whose own models these are; None: the one model is everybody's.
        """
        right, cells = correct if self.dealt else told.class_accuracy, self.cells
        if clients is None:
            right = np.asarray(right, np.float64)[cells.label]
        else:
            cells = cells_of_clients(cells, clients)
            right = np.asarray(right, np.float64)[cells.client, cells.label]
        weights = np.where(np.isnan(right), 0, cells.count)
        rows = cells.sums(weights)
        sums = cells.sums(np.nan_to_num(right) * weights)
        return np.divide(sums, rows, out=np.full(cells.clients, np.nan), where=rows > 0)


def cells_of_clients(cells: Cells, clients: np.ndarray) -> Cells:
    """The cells of these clients [M], which are numbered 0..M-1."""
    first, after = (np.searchsorted(cells.client, clients, side) for side in ("left", "right"))
    sizes = after - first
    owners = np.repeat(np.arange(len(clients)), sizes)
    places = np.repeat(first - (np.cumsum(sizes) - sizes), sizes) + np.arange(sizes.sum())
    return Cells(owners, cells.label[places], cells.count[places], len(clients), cells.classes)


def own_rows(held: Cells, test: np.ndarray, seed: int | None, sites: np.ndarray | None = None) -> OwnRows:
    """Which test rows stand for each client.

    Args:
        held: the clients' training rows of each class.
        test: [n] labels of the test rows.
        seed: deals the test rows to the clients; None: they are weighted instead.
        sites: [n] the client that each test row came from, -1 for none: nothing is dealt or weighted then.
    """
    rows = np.bincount(test, minlength=held.classes)
    if seed is None and sites is None:
        return OwnRows(held, False, rows)
    owners = deal_rows(held, test, seed) if sites is None else sites
    dealt = np.argsort(owners, kind="stable")[np.count_nonzero(owners < 0) :]
    cells = Cells(owners[dealt], dealt, np.ones(len(dealt), np.int64), held.clients, len(test))
    return OwnRows(cells, True, rows, sites)


def deal_rows(held: Cells, labels: np.ndarray, seed: int) -> np.ndarray:
    """[n] the client of each test row: of each class a client gets its share of the training rows, to a row, rounded up
    or down by lot. -1: no client holds the class."""
    owners, rng = np.full(len(labels), -1), np.random.default_rng(seed)
    by_class, by_label = np.argsort(held.label, kind="stable"), np.argsort(labels, kind="stable")
    cells = np.split(by_class, np.searchsorted(held.label[by_class], np.arange(1, held.classes)))
    rows = np.split(by_label, np.searchsorted(labels[by_label], np.arange(1, held.classes)))
    for own, drawn in zip(cells, rows, strict=True):
        if len(own) and len(drawn):
            own, drawn = rng.permutation(own), rng.permutation(drawn)
            ends = np.cumsum(held.count[own])
            places = (np.arange(len(drawn)) + 0.5) / len(drawn) * ends[-1]
            owners[drawn] = held.client[own[np.searchsorted(ends, places, side="right")]]
    return owners


def scores_of(own: OwnRows, test: Scores, validation: Scores | None = None) -> dict:
    """One model's figures by their names in summary.json; NaN accuracies where a logit is not finite."""
    told = figures(test)
    valid = None if validation is None else float(figures(validation).accuracy)
    return named(told, valid, own.accuracies(told, test.correct))


def named(told: Figures, validation: float | None, clients: np.ndarray) -> dict:
    """Figures by their names; `clients` [C] is each client's accuracy on its own rows, NaN where it has none."""
    return {
        "test_accuracy": float(told.accuracy),
        "validation_accuracy": validation,
        "test_balanced_accuracy": float(told.balanced_accuracy),
        "test_ece": float(told.ece),
        "test_cross_entropy": float(told.cross_entropy),
        "test_class_accuracy": [None if math.isnan(share) else float(share) for share in told.class_accuracy],
        "clients": over_clients(clients),
    }


def over_clients(accuracies: np.ndarray) -> dict[str, float | None]:
    """Mean, mean of the worst tenth (rounded up) and standard deviation over the clients that have rows, [C]."""
    known = np.sort(accuracies[~np.isnan(accuracies)])
    if not len(known):
        return dict.fromkeys(OVER_CLIENTS)
    told = known.mean(), known[: math.ceil(len(known) / 10)].mean(), known.std()
    return dict(zip(OVER_CLIENTS, map(float, told), strict=True))


def scalars(scores: dict) -> dict:
    """What of a model's figures a line of metrics.jsonl has."""
    flat = scores | {f"clients_{name}": value for name, value in scores["clients"].items()}
    return {name: flat[name] for name in (*UNSCORED, *SCALARS)}


def rounds_to(rounds: list[int], accuracies: list[float | None]) -> dict[str, int | None]:
    """The first evaluated round at which 90, 95 and 99% of the final gain over round 0 are there; null without a gain.

    Args:
        rounds: that were evaluated, round 0 first.
        accuracies: on the test rows, of each; round 0 has none where its logits are not finite.
    """
    start = math.nan if accuracies[0] is None else accuracies[0]
    gains = [accuracy - start for accuracy in (start, *accuracies[1:])]

    def first(share: int) -> int | None:
        least = share / 100 * gains[-1] - ROUNDING
        there = (number for number, gain in zip(rounds, gains, strict=True) if gain >= least)
        return next(there) if gains[-1] > 0 else None

    return {str(share): first(share) for share in (90, 95, 99)}


def notes_on_clients(own: OwnRows) -> list[str]:
    """What a reader has to know of the figures over the clients."""
    without, notes = int((own.rows == 0).sum()), []
    if without:
        notes.append(
            f"{without:,} of {len(own.rows):,} classes have no test rows: balanced accuracy and the accuracies "
            "over the clients are of the others."
        )
    right = Figures(*[1.0] * 4, np.where(own.rows > 0, 1.0, np.nan))
    left_out = int(np.isnan(own.accuracies(right, np.ones(own.rows.sum()))).sum())
    if left_out:
        notes.append(
            f"{left_out:,} of {own.cells.clients:,} clients have no test rows of their own classes: the accuracies "
            "over the clients leave them out."
        )
    return notes
