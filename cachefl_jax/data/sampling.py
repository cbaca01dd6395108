"""Which rows: a few of each class, at random.

Axis letters: n rows, N classes.
"""

import numpy as np

from cachefl_jax.data.images import ImageSet, LabelledImages, select
from cachefl_jax.errors import listing

VALIDATION_SHOTS = 4  # of each class, CoOp's
SPLIT_SEED = (0, 2)  # of what is held out: part of the data set, not of a run, so that all runs share one test set


def class_ranks(labels: np.ndarray, seed: tuple[int, ...]) -> np.ndarray:
    """[n]: the place, from 0, that each row has among those of its class when all rows are shuffled."""
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]  # class by class, shuffled within
    grouped = labels[order]
    ranks = np.empty(len(labels), np.int64)
    ranks[order] = np.arange(len(labels)) - np.searchsorted(grouped, grouped)
    return ranks


def shot_rows(labels: np.ndarray, shots: int, seed: int) -> np.ndarray:
    """At most `shots` rows of each class, drawn at random, in ascending order; 0 gives all rows."""
    if shots == 0:
        return np.arange(len(labels))
    return np.flatnonzero(class_ranks(labels, (seed, 1)) < shots)


def take_image_shots(source: ImageSet, shots: int, seed: int, more: int = 0) -> ImageSet:
    """Few-shot rows of training and validation, chosen before anything is decoded; 0 shots keep all.

    Training has at most `shots` images of each class, validation `VALIDATION_SHOTS` and no more than training, as in
    CoOp's code (Zhou et al., arXiv 2109.01134): choosing on thousands of labelled images is no few-shot learning. The
    test split stays whole. `bank.take_shots` chooses the same rows of the same labels. A note says what was taken.

    Args:
        shots: images of a class.
        more: training images of each class on top, for whoever takes them out of the training rows again."""
    if shots == 0:
        return source
    notes, splits = list(source.notes), {}
    for what, most in (("train", shots + more), ("validation", min(shots, VALIDATION_SHOTS))):
        split = getattr(source, what)
        rows = np.arange(0) if split is None else shot_rows(split.labels, most, seed)
        if split is None or len(rows) == len(split.labels):
            continue
        splits[what] = select(split, rows)
        told = f"{most} images of each class, {len(rows)} of {len(split.labels)}"
        notes.append(f"data.shots={shots}: the {what} split is at most {told}.")
    counts = np.bincount(source.train.labels, minlength=len(source.class_names))
    poor = [f"{source.class_names[label]} ({counts[label]})" for label in np.flatnonzero(counts < shots)]
    if poor:
        notes.append(
            f"Classes with fewer than {shots} training images ({len(poor)} of {len(counts)}): {listing(poor)}."
        )
    return source._replace(**splits, notes=tuple(notes))


def splits_of(source: ImageSet) -> dict[str, LabelledImages]:
    """The splits that there are, by name."""
    splits = {"train": source.train, "validation": source.validation, "test": source.test}
    return {name: split for name, split in splits.items() if split is not None}
