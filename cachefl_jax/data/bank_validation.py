"""Validation rows for a feature bank that comes without them."""

import numpy as np

from cachefl_jax.data.bank import FeatureBank, Split
from cachefl_jax.data.sampling import SPLIT_SEED, class_ranks


def hold_out_validation(bank: FeatureBank, share: float) -> tuple[FeatureBank, list[str]]:
    """(the bank with a share of every class's training rows as its validation split, what was done in words).

    The rows are drawn at random, the same for every run, and each class gives at least one, as long as one is left to
    train on. A bank that has validation rows, a share of 0, or classes of one row each leave the bank as it is.

    Args:
        bank: any bank without views of its training rows.
        share: of each class's rows, from 0 up to (not including) 1.
    """
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
