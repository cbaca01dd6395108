"""Images that are in two splits: the same file under another name, or the same pixels.

Axis letter: n rows.
"""

import hashlib
import os
from collections.abc import Sequence

import numpy as np

from cachefl_jax.data.images import LabelledImages, fingerprint_of
from cachefl_jax.storage.files import file_digest


def shared_rows(split: LabelledImages, others: LabelledImages) -> np.ndarray:
    """The rows, in ascending order, of the images of `split` that are among `others`.

    Encoded images, such as files, are the same if their bytes are; only those of equal sizes are read. Where one of the
    two is arrays, decoded pixels are compared.

    Raises UsageError: an image cannot be decoded."""
    rows, among = np.arange(len(split.labels)), np.arange(len(others.labels))
    if not (is_encoded(split) and is_encoded(others)):
        return rows[np.isin(pixel_digests(split, rows), pixel_digests(others, among))]
    sizes, found = sizes_of(split), sizes_of(others)
    rows, among = rows[np.isin(sizes, found)], among[np.isin(found, sizes)]
    return rows[np.isin(byte_digests(split, rows), byte_digests(others, among))]


def is_encoded(split: LabelledImages) -> bool:
    images = split.images
    return bool(getattr(images, "files", False) or getattr(images, "encoded", None))


def sizes_of(split: LabelledImages) -> np.ndarray:
    """The bytes [n] of every encoded image."""
    images, rows = split.images, range(len(split.labels))
    sizes = (os.stat(images.name(row)).st_size if images.files else len(images.encoded(row)) for row in rows)
    return np.fromiter(sizes, np.int64, len(rows))


def byte_digests(split: LabelledImages, rows: Sequence[int]) -> np.ndarray:
    """The sha256, in hex, of these rows' bytes."""
    return np.array([digest_of(split.images, row) for row in rows], "U64")


def digest_of(images, row: int) -> str:
    return file_digest(images.name(row)) if images.files else hashlib.sha256(images.encoded(row)).hexdigest()


def pixel_digests(split: LabelledImages, rows: Sequence[int]) -> np.ndarray:
    """The sha256, in hex, of these rows' pixels in colour, whatever form they come in."""
    return np.array([fingerprint_of(in_colour(split.images[row])) for row in rows], "U64")


def in_colour(image) -> np.ndarray:
    """An image as uint8 [H, W, 3]."""
    if isinstance(image, np.ndarray):
        return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=-1)
    return np.asarray(image.convert("RGB"))
