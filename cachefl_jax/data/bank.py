"""The feature bank: everything that a run learns from, as arrays.

Whatever the source (images encoded here, or a user's own .npz, which `cachefl_jax.data.bank_file` reads), the rest of
the package sees only this.
Axis letters: n rows, N classes, D features.
"""

from typing import NamedTuple

import numpy as np

from cachefl_jax.data.sampling import SPLIT_SEED, class_ranks, shot_rows

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


def normalise(features: np.ndarray) -> np.ndarray:
    """Rows [n, D] of length 1, float32, of any finite rows that are not zero.

    Computed in float64, so that float16 input loses nothing more. Rows of float64 are first brought near 1, or their
    squares might leave float64's range; by a power of two, which changes no bit of the result."""
    wide = np.asarray(features, np.float64)
    if features.dtype == np.float64:
        exponents = np.frexp(np.abs(wide).max(axis=1, keepdims=True))[1]
        wide = np.ldexp(wide, -exponents)
    return (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(np.float32)


def take_shots(split: Split, shots: int, seed: int) -> Split:
    """At most `shots` rows of each class, drawn at random, in their old order; 0 keeps all."""
    if shots == 0:
        return split
    rows = shot_rows(split.labels, shots, seed)
    return Split(split.features[rows], split.labels[rows])


def hold_out_validation(bank: FeatureBank, share: float) -> tuple[FeatureBank, list[str]]:
    """(the bank with a share of every class's training rows as its validation split, what was done in words).

    The rows are drawn at random, the same for every run, and each class gives at least one, as long as one is left to
    train on. A bank that has validation rows, a share of 0, or classes of one row each leave the bank as it is.

    Args:
        bank: any bank without views of its training rows.
        share: of each class's rows, from 0 up to (not including) 1."""
    labels = bank.train.labels
    if bank.validation is not None or share == 0:
        return bank, []
    sizes = np.bincount(labels, minlength=bank.classes)
    counts = np.clip(np.round(sizes * share).astype(np.int64), 1, np.maximum(sizes - 1, 0))
    held_out = class_ranks(labels, SPLIT_SEED) < counts[labels]
    if not held_out.any():
        return bank, []
    train, validation = (Split(bank.train.features[rows], labels[rows]) for rows in (~held_out, held_out))
    note = (
        f"No validation rows in the bank: {share:g} of every class's training rows, {len(validation.labels)} of "
        f"{len(labels)}, were held out (data.validation_share=0 keeps them for training)."
    )
    return bank._replace(train=train, validation=validation), [note]
