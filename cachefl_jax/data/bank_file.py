"""A user's own features, from an .npz that may be wrong in any way: what is not plainly right is refused by name.

Matrices are read and normalised block by block, into memory that a CPU device takes as it is: the bank is never in
memory twice.

Axis letters: n rows, N classes, D features.
"""

import math
import pathlib
from collections.abc import Mapping

import numpy as np

from cachefl_jax.aligned import empty
from cachefl_jax.data.bank import FeatureBank, Split, normalise
from cachefl_jax.data.bank_texts import FIELD, given_names, read_metadata, refuse
from cachefl_jax.errors import listing
from cachefl_jax.storage.archive import Archive
from cachefl_jax.storage.files import check_room

PREFIXES = {"train": "train", "validation": "val", "test": "test", "synthetic": "synthetic"}  # of a split's arrays


def load_bank(path: pathlib.Path) -> FeatureBank:
    """Reads a bank (.npz): train_features [n, D], train_labels [n], the same for test_ and synthetic_, optionally
    val_, text_features [N, D], class_names [N] and metadata (a JSON string). Other arrays are not read.

    Raises UsageError: an array is missing, misshapen, not finite, too large, or does not fit the others; it is
    named."""
    with Archive(FIELD, path) as archive:
        left_out = [] if {"val_features", "val_labels"} & set(archive.names) else ["validation"]
        prefixes = {name: prefix for name, prefix in PREFIXES.items() if name not in left_out}
        check_shapes(archive, [f"{prefix}_features" for prefix in prefixes.values()])
        labels = {name: read_labels(archive, prefix) for name, prefix in prefixes.items()}
        names = read_class_names(archive, labels)
        check_labels(path, labels, names)
        scale, metadata = read_metadata(archive)
        splits = {
            name: Split(read_matrix(archive, f"{prefix}_features"), labels[name].astype(np.int32))
            for name, prefix in prefixes.items()
        }
        text = read_matrix(archive, "text_features") if "text_features" in archive.names else None
    if text is not None and len(text) != len(names):
        allowed = f"[{len(names)}, {text.shape[1]}], a row per class"
        refuse(path, "text_features", f"shape {text.shape}", allowed, "encode one text per class")
    return FeatureBank(
        text_features=text, class_names=names, logit_scale=scale, metadata=metadata,
        **{name: splits.get(name) for name in PREFIXES},
    )  # fmt: skip


def check_shapes(archive: Archive, names: list[str]) -> None:
    """Every matrix one of floats, all as wide as the first, and room for all of them: by their headers."""
    path, room = archive.path, 0
    first, widths = names[0], []
    for name in [*names, *(["text_features"] if "text_features" in archive.names else [])]:
        archive.need(name)
        header = archive.header(name)
        kinds = [np.dtype(kind) for kind in ("f2", "f4", "f8")]
        if len(header.shape) != 2 or not header.size or header.dtype.newbyteorder("=") not in kinds:
            allowed = "[n, D] floats of 16, 32 or 64 bits, n and D above 0"
            refuse(path, name, f"shape {header.shape} of {header.dtype}", allowed, "save a float32 matrix")
        widths.append(header.shape[1])
        if widths[-1] != widths[0]:
            allowed = f"as wide as {first}, {widths[0]}"
            refuse(path, name, f"shape {header.shape}, width {widths[-1]}", allowed, "use one encoder for all")
        room += math.prod(header.shape) * 4 + header.size * header.fortran  # read whole before it is normalised
    check_room(FIELD, path, room)


def read_labels(archive: Archive, prefix: str) -> np.ndarray:
    """The labels of a split, [n], as they are: a cast could make others of them."""
    name, path = f"{prefix}_labels", archive.path
    archive.need(name)
    header, rows = archive.header(name), archive.header(f"{prefix}_features").shape[0]
    if len(header.shape) != 1 or header.dtype.kind not in "iu":
        found = f"shape {header.shape} of {header.dtype}"
        refuse(path, name, found, "[n] whole numbers", f"save {name}.astype(numpy.int64), one number a row")
    if header.shape[0] != rows:
        allowed = f"as many labels as {prefix}_features has rows, {rows}"
        refuse(path, name, f"{header.shape[0]} labels", allowed, "save both from the same rows")
    return archive.read(name)


def read_matrix(archive: Archive, name: str) -> np.ndarray:
    """Features or class weights: rows of length 1, [n, D] float32."""
    rows, start = empty(archive.header(name).shape, np.float32), 0
    for block in archive.rows(name):
        check_rows(archive.path, name, block, start)
        rows[start : start + len(block)] = normalise(block)
        start += len(block)
    return rows


def check_rows(path: pathlib.Path, name: str, block: np.ndarray, start: int) -> None:
    """Refuses rows without a direction; `start` is the first one's number."""
    longest = np.abs(block).max(axis=1)  # NaN where any value is
    if not np.isfinite(longest).all():
        row = start + int(np.argmin(np.isfinite(longest)))
        refuse(path, name, f"NaN or infinity in row {row}", "finite numbers", "drop or encode these rows again")
    if not longest.all():
        row = start + int(np.argmin(longest.astype(bool)))
        refuse(path, name, f"zeros only in row {row}", "rows that have a direction", "drop or encode these rows again")


def read_class_names(archive: Archive, labels: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """The names given, or numbers: one a text row, or up to the largest label."""
    if "class_names" in archive.names:
        return given_names(archive)
    if "text_features" in archive.names:
        return tuple(f"class {number}" for number in range(archive.header("text_features").shape[0]))
    lowest, highest = extremes(labels)
    if lowest > 0:
        told = "numbers from 0, one a class: without class_names the largest label tells how many"
        mend = f"subtract {lowest} from the labels of all splits"
        refuse(archive.path, "labels", f"{lowest} as the lowest of all splits", told, mend)
    if highest >= len(labels["synthetic"]):
        told = f"at most {len(labels['synthetic']) - 1}, as synthetic_labels has that many rows and one more"
        refuse(archive.path, "labels", f"{highest} as the highest", told, "number the classes from 0 without gaps")
    return tuple(f"class {number}" for number in range(highest + 1))


def extremes(labels: Mapping[str, np.ndarray]) -> tuple[int, int]:
    """The lowest and the highest label of all splits."""
    return min(int(each.min()) for each in labels.values()), max(int(each.max()) for each in labels.values())


def check_labels(path: pathlib.Path, labels: Mapping[str, np.ndarray], names: tuple[str, ...]) -> None:
    """Every label a class, every class in the synthetic set."""
    from_one = extremes(labels) == (1, len(names))
    mend = "subtract 1 from the labels of all splits: they start at 1" if from_one else "renumber the classes from 0"
    for split, each in labels.items():
        low, high = int(each.min()), int(each.max())
        if low < 0 or high >= len(names):
            allowed = f"0 to {len(names) - 1}, one per class"
            refuse(path, f"{PREFIXES[split]}_labels", f"labels from {low} to {high}", allowed, mend)
    lacking = np.setdiff1d(np.arange(len(names)), labels["synthetic"])
    if len(lacking):
        found = f"no rows of {listing(f'{label} ({names[label]})' for label in lacking)}"
        allowed = "one or more of every class: they become the cache's keys"
        refuse(path, "synthetic_labels", found, allowed, "add some, or take these classes out of the bank")
