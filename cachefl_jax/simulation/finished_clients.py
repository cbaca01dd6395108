"""The clients of `local_only` that are finished, in a file of the run's folder until all are."""

import contextlib
import pathlib
from collections.abc import Sequence

import numpy as np

from cachefl_jax.errors import UsageError
from cachefl_jax.federation import Figures, Scores, figures
from cachefl_jax.simulation.scores import OwnRows, Right
from cachefl_jax.storage.archive import read_arrays
from cachefl_jax.storage.files import write_arrays

UNDONE = -1  # of a client that is not finished
ARRAYS = ("right", "figures", "own", "class_right", "own_validation")


class FinishedClients:
    """What they came to.

    Args:
        file: where they are saved; None: nowhere.
        clients: C of these.
        rows: of each split that they are evaluated on, the test rows first.
        rounds: that they train.
        own: the test rows that stand for each client of the federation.

    Attributes:
        right: [splits, C] int32, the rows that a client has right; UNDONE.
        figures: [3, C] float64, balanced accuracy, calibration error and cross-entropy on the test rows.
        own: [clients of the federation] float64, accuracies on their own rows; NaN where there are none.
        class_right: [N] int64, test rows of each class that are right, over all who are finished.
        own_validation: [C] int64, the validation rows of its own site that a client has right; 0 where nobody knows.
        row_right: [n] int64, how many of them have each test row right; only where scores tell, and never saved.
        predicted: [n] int32, what the one model takes each test row for, or that of the row's own site; -1 where there
            is none; as well.
        seconds: of training, of all that are finished.
    """

    def __init__(self, file: pathlib.Path | None, clients: int, rows: Sequence[int], rounds: int, own: OwnRows):
        self.file, self.rows, self.rounds, self.seconds = file, np.asarray(rows)[:, None], rounds, 0.0
        self.class_rows = own.rows
        self.right = np.full((len(rows), clients), UNDONE, np.int32)
        self.figures, self.own = np.zeros((3, clients)), np.full(own.cells.clients, np.nan)
        self.class_right = np.zeros(len(own.rows), np.int64)
        self.row_right, self.sites = np.zeros(rows[0], np.int64), own.sites
        self.predicted = np.full(rows[0], -1, np.int32)
        self.validation, self.own_validation = own.validation, np.zeros(clients, np.int64)
        if file is not None and file.is_file():
            self.read()

    def read(self) -> None:
        """Takes over what the file holds; one that is damaged, or of a run of other rounds, holds nothing."""
        try:
            arrays = read_arrays("local_only", self.file, (*ARRAYS, "seconds", "rounds"))
            read = {name: arrays[name] for name in ARRAYS}
            seconds, rounds = float(arrays["seconds"]), int(arrays["rounds"])
        except (UsageError, KeyError, TypeError, ValueError, OverflowError):
            return
        ours = {name: getattr(self, name) for name in ARRAYS}
        if any(read[name].shape != ours[name].shape or read[name].dtype != ours[name].dtype for name in ARRAYS):
            return
        right, (test, *_) = read["right"], read["right"]
        in_range = (right >= UNDONE).all() and (right <= self.rows).all()
        agree = read["class_right"].min() >= 0 and read["class_right"].sum() == test[test != UNDONE].sum()
        sound = (read["figures"] >= 0).all() and not ((read["own"] < 0) | (read["own"] > 1)).any()
        if rounds == self.rounds and in_range and agree and sound and 0 <= seconds < np.inf:
            self.seconds = seconds
            for name in ARRAYS:
                setattr(self, name, read[name])

    def add(self, clients: np.ndarray, scores: list[Scores], own: np.ndarray, who: np.ndarray | slice) -> None:
        """Clients [M] with their scores [M, ...] of each split; `own` are accuracies of the clients `who`."""
        self.right[:, clients] = [each.right.sum(axis=-1) for each in scores]
        self.figures[:, clients] = figures(scores[0])[1:4]
        self.class_right += scores[0].right.sum(axis=0)
        self.own[who] = own
        if scores[0].correct is not None:
            self.row_right += scores[0].correct.sum(axis=0)
        if scores[0].predicted is not None and len(self.figures[0]) == 1:
            self.predicted = scores[0].predicted[0]
        elif scores[0].predicted is not None and self.sites is not None:
            for client, predicted in zip(clients, scores[0].predicted, strict=True):
                self.predicted[self.sites == client] = predicted[self.sites == client]

        if self.validation is not None and len(self.figures[0]) > 1 and scores[1].correct is not None:
            for client, correct in zip(clients, scores[1].correct, strict=True):
                self.own_validation[client] = correct[self.validation == client].sum()

    def each_row(self) -> Right:
        """How many clients have each test row right, where none of them were read from the file."""
        models = self.right.shape[1]
        return Right(self.row_right, models, self.predicted if models == 1 or self.sites is not None else None)

    def means(self) -> tuple[Figures, float | None]:
        """(figures on the test rows, validation accuracy where there is a split for it): means over the clients. Where
        validation rows know their sites, each is judged by its own site's model."""
        test, *validation = (self.right / self.rows).mean(axis=1)
        if validation and self.validation is not None and len(self.figures[0]) > 1 and (self.validation >= 0).any():
            validation = [self.own_validation.sum() / (self.validation >= 0).sum()]
        rows = self.class_rows * self.right.shape[1]
        shares = np.divide(self.class_right, rows, out=np.full(len(rows), np.nan), where=rows > 0)
        return Figures(test, *self.figures.mean(axis=1), shares), float(validation[0]) if validation else None

    def write(self) -> None:
        if self.file is not None:
            numbers = {"seconds": np.asarray(self.seconds), "rounds": np.asarray(self.rounds)}
            write_arrays(self.file, {name: getattr(self, name) for name in ARRAYS} | numbers)

    def write_if_any(self) -> None:
        """For a moment at which something else has gone wrong, which this must not hide."""
        with contextlib.suppress(OSError, UsageError):
            if (self.right != UNDONE).any():
                self.write()

    def left(self) -> np.ndarray:
        """[C] bool, who is not finished."""
        return self.right[0] == UNDONE
