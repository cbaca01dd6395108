"""Images that are in two splits: the same file under another name, or the same pixels.

Axis letter: n rows.
"""

import hashlib
import os
from collections.abc import Sequence

import numpy as np

from cachefl_jax.data.images import LabelledImages, fingerprint_of


def shared_rows(split: LabelledImages, others: LabelledImages) -> np.ndarray:
    """The rows, in ascending order, of the images of `split` that are among `others`.

    Two files are the same image if they have the same bytes; only files of equal sizes are read. Where one of the two
    are no files, their decoded pixels are compared.

    Raises:
        UsageError: an image cannot be decoded.
    """
    if is_files(split) and is_files(others):
        return rows_of_equal(split, others, file_sizes, file_digests)
    return rows_of_equal(split, others, lambda split: None, pixel_digests)


def rows_of_equal(split: LabelledImages, others: LabelledImages, quick, exact) -> np.ndarray:
    """Rows of `split` with the `exact` mark of one of `others`; it is asked for only where the `quick` one agrees."""
    rows, among = np.arange(len(split.labels)), np.arange(len(others.labels))
    marks, found = quick(split), quick(others)
    if marks is not None:
        rows, among = rows[np.isin(marks, found)], among[np.isin(found, marks)]
    return rows[np.isin(exact(split, rows), exact(others, among))]


def is_files(split: LabelledImages) -> bool:
    return getattr(split.images, "files", False)


def file_sizes(split: LabelledImages) -> np.ndarray:
    """The bytes [n] of every file; -1 for one that is gone."""
    return np.array([size_of(split.images.name(row)) for row in range(len(split.labels))], np.int64)


def size_of(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def file_digests(split: LabelledImages, rows: Sequence[int]) -> np.ndarray:
    """The sha256, in hex, of these rows' files."""
    digests = []
    for row in rows:
        with open(split.images.name(row), "rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return np.array(digests, "U64")


def pixel_digests(split: LabelledImages, rows: Sequence[int]) -> np.ndarray:
    """The sha256, in hex, of these rows' pixels in colour, whatever form they come in."""
    return np.array([fingerprint_of(in_colour(split.images[row])) for row in rows], "U64")


def in_colour(image) -> np.ndarray:
    """An image as uint8 [H, W, 3]."""
    if isinstance(image, np.ndarray):
        return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=-1)
    return np.asarray(image.convert("RGB"))
