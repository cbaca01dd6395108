"""The clients of `local_only` that are finished, in a file of the run's folder until all are."""

import contextlib
import pathlib
from collections.abc import Sequence

import numpy as np

from cachefl_jax.errors import UsageError
from cachefl_jax.storage.archive import read_arrays
from cachefl_jax.storage.files import write_arrays

UNDONE = -1  # of a client that is not finished


class FinishedClients:
    """What they came to.

    Args:
        file: where they are saved; None: nowhere.
        clients: C.
        rows: of each split that they are evaluated on.
        rounds: that they train.

    Attributes:
        right: [splits, C] int32, the rows that a client has right; UNDONE.
        seconds: of training, of all that are finished.
    """

    def __init__(self, file: pathlib.Path | None, clients: int, rows: Sequence[int], rounds: int):
        self.file, self.rounds = file, rounds
        self.right, self.seconds = np.full((len(rows), clients), UNDONE, np.int32), 0.0
        if file is not None and file.is_file():
            self.read(np.asarray(rows)[:, None])

    def read(self, most: np.ndarray) -> None:
        """Takes over what the file holds; one that is damaged, or of a run of other rounds, holds nothing."""
        try:
            arrays = read_arrays("local_only", self.file, ("right", "seconds", "rounds"))
            right, seconds, rounds = arrays["right"], float(arrays["seconds"]), int(arrays["rounds"])
        except (UsageError, KeyError, TypeError, ValueError, OverflowError):
            return
        if rounds != self.rounds or right.shape != self.right.shape or right.dtype != self.right.dtype:
            return
        if (right >= UNDONE).all() and (right <= most).all() and 0 <= seconds < np.inf:
            self.right, self.seconds = right, seconds

    def write(self) -> None:
        if self.file is not None:
            numbers = {"seconds": np.asarray(self.seconds), "rounds": np.asarray(self.rounds)}
            write_arrays(self.file, {"right": self.right, **numbers})

    def write_if_any(self) -> None:
        """For a moment at which something else has gone wrong, which this must not hide."""
        with contextlib.suppress(OSError, UsageError):
            if (self.right != UNDONE).any():
                self.write()

    def left(self) -> np.ndarray:
        """[C] bool, who is not finished."""
        return self.right[0] == UNDONE
