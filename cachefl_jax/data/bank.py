"""The feature bank: everything that a run learns from, as arrays.

Whatever the source (images encoded here, or a user's own .npz), the rest of the package sees only this.
Axis letters: n rows, N classes, D features.
"""

import json
import pathlib
from typing import NamedTuple

import numpy as np

from cachefl_jax.data.sampling import shot_rows
from cachefl_jax.errors import UsageError
from cachefl_jax.files import read_arrays

FIELD = "data.path"
DEFAULT_LOGIT_SCALE = 100.0  # every released CLIP ends its training at this ceiling
SPLITS = ("train", "validation", "test", "synthetic")


class Split(NamedTuple):
    """Rows of one split."""

    features: np.ndarray  # [n, D] float32, L2-normalised
    labels: np.ndarray  # [n] int32


class FeatureBank(NamedTuple):
    """Features of every split, class weights, and where they come from."""

    train: Split
    validation: Split | None
    test: Split
    synthetic: Split
    text_features: np.ndarray | None  # [N, D] float32, L2-normalised
    class_names: tuple[str, ...]  # N of them
    logit_scale: float
    metadata: dict
    train_views: np.ndarray | None = None  # [V, n, D], versions of the training rows, of which train holds the first

    @property
    def classes(self) -> int:
        return len(self.class_names)

    @property
    def width(self) -> int:
        """D."""
        return self.train.features.shape[1]


def load_bank(path: pathlib.Path) -> FeatureBank:
    """Reads a bank (.npz): train_features [n, D], train_labels [n], the same for test_, optionally val_ and synthetic_,
    text_features [N, D], class_names [N] and metadata (a JSON string).

    Raises:
        UsageError: an array is missing, misshapen, not finite, or does not fit the others; the array is named.
    """
    arrays = read_arrays(FIELD, path)
    train = read_split(path, arrays, "train")
    splits = {name: read_split(path, arrays, name) for name in ("test", "synthetic")}
    validation = read_split(path, arrays, "val") if "val_features" in arrays or "val_labels" in arrays else None
    text = read_text(path, arrays)
    names = read_class_names(arrays, text, [train, *splits.values(), validation])
    bank = FeatureBank(
        train, validation, splits["test"], splits["synthetic"], text, names, *read_metadata(path, arrays)
    )
    check_bank(path, bank)
    return bank


def read_split(path: pathlib.Path, arrays: dict, prefix: str) -> Split:
    """One split's features and labels, checked against each other."""
    features, labels = (needed(path, arrays, f"{prefix}_{kind}") for kind in ("features", "labels"))
    check_matrix(path, f"{prefix}_features", features)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        refuse(
            path, f"{prefix}_labels", f"shape {labels.shape} of {labels.dtype}", "[n] whole numbers", "save int labels"
        )
    if len(labels) != len(features):
        allowed = f"as many labels as {prefix}_features has rows, {len(features)}"
        refuse(path, f"{prefix}_labels", f"{len(labels)} labels", allowed, "save both from the same rows")
    return Split(normalise(features), labels.astype(np.int32))


def read_text(path: pathlib.Path, arrays: dict) -> np.ndarray | None:
    """Class weights [N, D] where the bank has them."""
    if "text_features" not in arrays:
        return None
    check_matrix(path, "text_features", arrays["text_features"])
    return normalise(arrays["text_features"])


def read_class_names(arrays: dict, text: np.ndarray | None, splits: list[Split | None]) -> tuple[str, ...]:
    """The names given, or numbers: one a text row, or up to the largest label."""
    if "class_names" in arrays:
        return tuple(str(name) for name in arrays["class_names"].reshape(-1))
    if text is not None:
        return tuple(f"class {number}" for number in range(len(text)))
    largest = max(int(split.labels.max(initial=0)) for split in splits if split is not None)
    return tuple(f"class {number}" for number in range(largest + 1))


def read_metadata(path: pathlib.Path, arrays: dict) -> tuple[float, dict]:
    """(logit scale, all metadata)."""
    try:
        metadata = json.loads(str(arrays["metadata"])) if "metadata" in arrays else {}
        scale = float(metadata.get("logit_scale", DEFAULT_LOGIT_SCALE))
    except (ValueError, TypeError, AttributeError):
        refuse(path, "metadata", "unreadable", "a JSON object with a numeric logit_scale", "save json.dumps({...})")
    if not (np.isfinite(scale) and scale > 0):
        refuse(path, "metadata: logit_scale", scale, "a finite number above 0", "save exp(model.logit_scale)")
    return scale, metadata


def check_bank(path: pathlib.Path, bank: FeatureBank) -> None:
    """Every split as wide as the others, every label a class, every class in the synthetic set."""
    for name in SPLITS:
        split = getattr(bank, name)
        if split is None:
            continue
        if split.features.shape[1] != bank.width:
            allowed = f"as wide as train_features, {bank.width}"
            refuse(path, f"{name}_features", f"width {split.features.shape[1]}", allowed, "use one encoder for all")
        low, high = int(split.labels.min()), int(split.labels.max())
        if low < 0 or high >= bank.classes:
            allowed = f"0 to {bank.classes - 1}, one per class"
            refuse(path, f"{name}_labels", f"labels from {low} to {high}", allowed, "renumber the classes from 0")
    if bank.text_features is not None and bank.text_features.shape != (bank.classes, bank.width):
        allowed = f"[{bank.classes}, {bank.width}], a row per class and as wide as train_features"
        refuse(path, "text_features", f"shape {bank.text_features.shape}", allowed, "encode one text per class")


def check_matrix(path: pathlib.Path, name: str, array: np.ndarray) -> None:
    if array.ndim != 2 or not array.size or not np.issubdtype(array.dtype, np.floating):
        refuse(
            path, name, f"shape {array.shape} of {array.dtype}", "[n, D] floats, n and D above 0", "save a float matrix"
        )
    if not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        refuse(path, name, f"NaN or infinity in row {row}", "finite numbers", "drop or encode these rows again")
    if not np.abs(array).max(axis=1).all():
        row = int(np.flatnonzero(~np.abs(array).max(axis=1).astype(bool))[0])
        refuse(path, name, f"zeros only in row {row}", "rows that have a direction", "drop or encode these rows again")


def needed(path: pathlib.Path, arrays: dict, name: str) -> np.ndarray:
    if name not in arrays:
        found = ", ".join(sorted(arrays)) or "nothing"
        refuse(path, name, "no such array", f"an array of that name (the file has {found})", "add it with numpy.savez")
    return arrays[name]


def refuse(path: pathlib.Path, name: str, value: object, allowed: str, mend: str):
    raise UsageError(f"{FIELD}: {path}: {name}", value, allowed, mend)


def normalise(features: np.ndarray) -> np.ndarray:
    """Rows of length 1, float32; computed in float64, so that float16 input loses nothing more."""
    wide = np.asarray(features, np.float64)
    return (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(np.float32)


def take_shots(split: Split, shots: int, seed: int) -> Split:
    """At most `shots` rows of each class, drawn at random, in their old order; 0 keeps all."""
    if shots == 0:
        return split
    rows = shot_rows(split.labels, shots, seed)
    return Split(split.features[rows], split.labels[rows])


def class_grid(split: Split, classes: int, per_class: int) -> np.ndarray:
    """The first `per_class` rows of every class, [N, K, D]: the cache's keys at round 0.

    Raises:
        UsageError: a class has fewer rows.
    """
    counts = np.bincount(split.labels, minlength=classes)
    if per_class > counts.min():
        poorest = int(counts.argmin())
        allowed = f"1 to {counts.min()}, what the synthetic set has of its poorest class (number {poorest})"
        raise UsageError("cache.keys_per_class", per_class, allowed, "lower it, or make a larger synthetic set")
    return np.stack([split.features[split.labels == label][:per_class] for label in range(classes)])
