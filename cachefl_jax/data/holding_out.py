"""Shares of the training images held out for validation and test, of every class or of every class of every site.

Axis letters: n rows, N classes.
"""

import numpy as np

from cachefl_jax.data.images import ImageSet, select
from cachefl_jax.data.sampling import SPLIT_SEED, class_ranks, splits_of
from cachefl_jax.errors import UsageError, listing


def hold_out(source: ImageSet, data) -> ImageSet:
    """Fills in the splits that the source lacks with shares of its training images, drawn at random.

    Both are shares of all images that training had before. Each class (data.held_out_of=site: each class of each site)
    gives at least one image to test, and then one to validation, as long as one is left to train on: of two images one
    is tested on, of three one is in each. A validation share of 0 makes no validation split.

    With data.duplicates=together a group of near-duplicates counts as one image, of the class and site of its first,
    and all of it goes to one split. Splits that the source gives stay as they are; a note tells what they share.

    Args:
        data: the config's data group (validation_share, test_share, held_out_of, duplicates).

    Raises UsageError: the shares are of sites, and the source tells none."""
    lacking = {}
    if source.test is None:
        lacking["test"] = data.test_share
    if source.validation is None and data.validation_share > 0:
        lacking["validation"] = data.validation_share
    strata, whole = strata_of(source, data.held_out_of)
    images, notes = np.arange(len(strata)), list(source.notes)
    if data.duplicates == "together":
        images, told = duplicate_images(source)
        notes += told
    _, first, image_of = np.unique(images, return_index=True, return_inverse=True)
    ranks, sizes = class_ranks(strata[first], SPLIT_SEED), np.bincount(strata[first])
    splits, taken = {}, np.zeros_like(sizes)
    for name, share in lacking.items():
        counts = np.clip(np.round(sizes * share).astype(np.int64), 1, np.maximum(sizes - taken - 1, 0))
        chosen = (ranks >= taken[strata[first]]) & (ranks < (taken + counts)[strata[first]])
        rows = np.flatnonzero(chosen[image_of])
        splits[name], taken = select(source.train, rows), taken + counts
        notes.append(f"No {name} split in the source: {share:g} of {whole}, {len(rows)} images, was held out for it.")
    if splits:
        splits["train"] = select(source.train, np.flatnonzero((ranks >= taken[strata[first]])[image_of]))
        left = len(splits["train"].labels)
        large = [f"{name} ({len(split.labels)} images)" for name, split in splits.items() if len(split.labels) > left]
        if large:
            notes.append(f"More was held out than is left to train on, {left} images: {listing(large)}.")
    return source._replace(**splits, notes=tuple(notes))


def strata_of(source: ImageSet, held_out_of: str) -> tuple[np.ndarray, str]:
    """(the number [n] of what each training image is a share of, what a note calls these).

    Raises UsageError: sites are wanted, and the source tells none."""
    train = source.train
    if held_out_of == "class":
        return train.labels, "every class"
    if train.groups is None:
        allowed = "class where the source tells no sites"
        raise UsageError("data.held_out_of", held_out_of, allowed, "--config.data.held_out_of=class")
    return train.groups.astype(np.int64) * len(source.class_names) + train.labels, "every class of every site"


def duplicate_images(source: ImageSet) -> tuple[np.ndarray, list[str]]:
    """(the group of near-duplicates [n] of each training image, notes on all splits)."""
    from cachefl_jax.data.duplicates import duplicate_groups  # brings what no other source must wait for

    splits = splits_of(source)
    groups = duplicate_groups(splits.values())
    ends = np.cumsum([len(split.labels) for split in splits.values()])
    parts = dict(zip(splits, np.split(groups, ends[:-1]), strict=True))
    notes = [duplicate_note(source, parts["train"])]
    for role, part in parts.items():
        shared = np.isin(part, parts["train"]).sum()
        if role != "train" and shared:
            told = f"Near-duplicates of training images in the {role} split: {shared} of {len(part)} images."
            notes.append(f"{told} The source gives these splits, and so they stay.")
    return parts["train"], notes


def duplicate_note(source: ImageSet, groups: np.ndarray) -> str:
    """How many of the training images are near-duplicates, in `groups` [n], and what lies across sites or classes."""
    train = source.train
    sizes = np.bincount(groups)
    several = sizes[sizes > 1]
    if not len(several):
        return f"No near-duplicates were found among {len(groups)} images."
    told = f"{several.sum()} of {len(groups)} images are near-duplicates of others, in"
    if len(several) == 1:
        told = f"{told} 1 group, which lies in one split."
    else:
        told = f"{told} {len(several)} groups of at most {several.max()}; each group lies in one split."
    name = getattr(train.images, "name", "image {}".format)
    for what, numbers in (("sites", train.groups), ("classes", train.labels)):
        across = [] if numbers is None else groups_across(groups, numbers)
        if across:
            pairs = [" and ".join(name(row) for row in rows) for rows in across]
            told += f" Across {what} {'lie' if len(pairs) > 1 else 'lies'} {len(pairs)}: {listing(pairs)}."
    return told


def groups_across(groups: np.ndarray, numbers: np.ndarray) -> list[tuple[int, int]]:
    """Two rows with different `numbers` [n] of every group that has such, by group."""
    order = np.argsort(groups, kind="stable")
    start = order[np.searchsorted(groups[order], groups)]  # the first row of each row's group
    other = np.flatnonzero(numbers != numbers[start])
    _, place = np.unique(groups[other], return_index=True)
    return [(int(start[row]), int(row)) for row in other[place]]
