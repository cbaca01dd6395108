"""Which site each image of a folder came from, for data.group_column=folder."""

import pathlib
from collections.abc import Sequence

import numpy as np

from cachefl_jax.data.class_names import readable
from cachefl_jax.data.classes import plain
from cachefl_jax.data.images import LabelledImages
from cachefl_jax.data.layout import Reading
from cachefl_jax.errors import UsageError, listing

FIELD = "data.group_column"


def check_column(column: str) -> None:
    """Refuses what is no way to tell the sites of files. Raises UsageError: `column` is neither "" nor "folder"."""
    if column not in ("", "folder"):
        raise UsageError(FIELD, column, "folder, for images in folders", "--config.data.group_column=folder")


def with_sites(split: LabelledImages, sites: Sequence[str | None]) -> LabelledImages:
    """The split with the site [n] of every image, numbered in the order of their names.

    Raises UsageError: an image lies in no folder of a site."""
    if None in sites:
        found = f"folder, but {split.images.name(sites.index(None))} lies in none of a site"
        allowed = "a folder of its site around every image"
        raise UsageError(FIELD, found, allowed, "sort them by site, or --config.data.group_column=")
    return split._replace(groups=np.unique(sites, return_inverse=True)[1].astype(np.int32))


def with_listed_sites(split: LabelledImages, class_names: Sequence[str]) -> LabelledImages:
    """The split with the site of every listed image: the folder that it lies in.

    Raises UsageError: these are the folders of the classes."""
    names = [readable(pathlib.PurePath(split.images.name(row)).parts[-2]) for row in range(len(split.labels))]
    if all(plain(name) == plain(class_names[label]) for name, label in zip(names, split.labels, strict=True)):
        found = f"folder, but the listed images lie in the folders of their classes ({listing(sorted(set(names)))})"
        raise UsageError(FIELD, found, "images in folders of sites", "--config.data.group_column=")
    return with_sites(split, names)


def site_notes(reading: Reading, grouped: bool) -> list[str]:
    """That there are folders of sites, where nobody asked for them."""
    if grouped or "site" not in reading.levels:
        return []
    sites = sorted({readable(part.site) for part in reading.parts["train"] if part.site is not None})
    told = f"Folders taken for sites, and those inside for classes ({len(sites)} sites): {listing(sites)}."
    return [f"{told} data.group_column=folder makes them the sites of partition.name=natural."]
