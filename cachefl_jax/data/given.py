"""A user's own partition, or that of another run: its partition.npz."""

import pathlib
from typing import NoReturn

import numpy as np

from cachefl_jax.errors import UsageError
from cachefl_jax.storage.archive import Archive
from cachefl_jax.storage.files import check_room

FIELD = "partition.path"
NAMES = ("offsets", "indices")


def read_given(path: str, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """(offsets [C + 1], indices [n]), int64, of an .npz of these arrays.

    Raises UsageError: it cannot be read, or does not hold each of the `rows` training rows exactly once."""
    if not path:
        raise UsageError(FIELD, "''", "a partition.npz", "--config.partition.path=DIR/partition.npz")
    with Archive(FIELD, pathlib.Path(path)) as archive:
        for name in NAMES:
            check_array(archive, name)
        check_room(FIELD, archive.path, sum(archive.header(name).size for name in NAMES))
        offsets, indices = (archive.read(name) for name in NAMES)
    check_indices(path, indices, rows)
    check_offsets(path, offsets, rows)
    return offsets.astype(np.int64), indices.astype(np.int64)


def check_array(archive: Archive, name: str) -> None:
    """One row of whole numbers, by its header."""
    archive.need(name)
    header = archive.header(name)
    if len(header.shape) != 1 or header.dtype.kind not in "iu":
        found = f"shape {header.shape} of {header.dtype}"
        refuse(archive.path, name, found, "one row of whole numbers", "save it as int64")


def check_indices(path: str, indices: np.ndarray, rows: int) -> None:
    """Each row once; the first that is not is named."""
    allowed, mend = (
        f"each of 0 to {rows - 1} (the training rows) once",
        "divide this very data set, after data.validation_share and data.shots",
    )
    outside = np.flatnonzero((indices < 0) | (indices >= rows))
    if len(outside):
        refuse(path, "indices", f"{indices[outside[0]]} at place {outside[0]}", allowed, mend)
    times = np.bincount(indices.astype(np.int64), minlength=rows)
    if (times != 1).any():
        row = int(np.argmax(times != 1))
        refuse(path, "indices", f"row {row} {times[row]} times among {len(indices)}", allowed, mend)


def check_offsets(path: str, offsets: np.ndarray, rows: int) -> None:
    """From 0 to all rows, never down."""
    allowed, mend = f"rising from 0 to {rows}, the indices there are", "save 0 and the running total of clients' sizes"
    falls = np.flatnonzero(offsets[1:] < offsets[:-1])
    if len(falls):
        place = falls[0] + 1
        refuse(path, "offsets", f"{offsets[place]} after {offsets[place - 1]} at place {place}", allowed, mend)
    if len(offsets) < 2 or offsets[0] != 0 or offsets[-1] != rows:
        ends = f" from {offsets[0]} to {offsets[-1]}" if len(offsets) else ""
        refuse(path, "offsets", f"{len(offsets)} offsets{ends}", allowed, mend)


def refuse(path: str | pathlib.Path, name: str, value: str, allowed: str, mend: str) -> NoReturn:
    raise UsageError(f"{FIELD}: {path}: {name}", value, allowed, mend)
