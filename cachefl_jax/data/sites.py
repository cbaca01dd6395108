"""Which site each image of a folder came from, for data.group_column=folder."""

import difflib
import pathlib
from collections.abc import Sequence

import numpy as np

from cachefl_jax.data.class_names import readable
from cachefl_jax.data.classes import plain
from cachefl_jax.data.images import ImageSet, LabelledImages, select
from cachefl_jax.data.layout import Reading
from cachefl_jax.data.sampling import splits_of
from cachefl_jax.errors import UsageError, listing

FIELD = "data.group_column"


def check_column(column: str) -> None:
    """Refuses what is no way to tell the sites of files. Raises UsageError: `column` is neither "" nor "folder"."""
    if column not in ("", "folder"):
        raise UsageError(FIELD, column, "folder, for images in folders", "--config.data.group_column=folder")


def check_sites(split: LabelledImages, sites: Sequence[str | None]) -> None:
    """Refuses a training split with an image that lies in no folder of a site.

    Raises UsageError: names the first such image."""
    if None in sites:
        found = f"folder, but {split.images.name(sites.index(None))} lies in none of a site"
        allowed = "a folder of its site around every image"
        raise UsageError(FIELD, found, allowed, "sort them by site, or --config.data.group_column=")


def number_sites(
    splits: dict[str, LabelledImages | None], sites: dict[str, Sequence[str | None]]
) -> tuple[dict[str, LabelledImages | None], tuple[str, ...]]:
    """(the splits with the number of every image's site, the sites' names in the order of the numbers).

    Sites with training images come first, each part in the order of its names, so that the clients of
    partition.name=natural have the numbers of their sites. A split that does not tell every image's site gets none.

    Args:
        sites: by role, the site [n] of every image of a split."""
    known = {role: list(names) for role, names in sites.items() if splits[role] is not None and None not in names}
    training = set(known.get("train", ()))
    others = {name for names in known.values() for name in names} - training
    order = (*sorted(training), *sorted(others))
    numbers = {name: number for number, name in enumerate(order)}
    numbered = {
        role: splits[role]._replace(groups=np.array([numbers[name] for name in names], np.int32))
        for role, names in known.items()
    }
    return splits | numbered, tuple(readable(str(name)) for name in order)


def listed_sites(split: LabelledImages) -> list[str]:
    """The site of every listed image: the folder that it lies in."""
    return [readable(pathlib.PurePath(split.images.name(row)).parts[-2]) for row in range(len(split.labels))]


def check_listed_sites(split: LabelledImages, names: Sequence[str], class_names: Sequence[str]) -> None:
    """Raises UsageError: the folders that listed images lie in are those of the classes."""
    if all(plain(name) == plain(class_names[label]) for name, label in zip(names, split.labels, strict=True)):
        found = f"folder, but the listed images lie in the folders of their classes ({listing(sorted(set(names)))})"
        raise UsageError(FIELD, found, "images in folders of sites", "--config.data.group_column=")


def site_numbers(field: str, words: Sequence[str], names: Sequence[str], sites: int) -> list[int]:
    """The numbers of sites that are named, or given by their numbers, as texts; a name counts before a number.

    Args:
        field: that has the words.
        names: of the sites [sites], in the order of their numbers; () where they have none.

    Raises UsageError: a word is none of them, or no site is left."""
    known = {str(number): number for number in range(sites)}
    known |= {name: number for number, name in enumerate(names) if list(names).count(name) == 1}
    numbers = {known[word] for word in words if word in known}
    if len(numbers) == len(set(words)) < sites:
        return sorted(numbers)
    called = f"{listing(names, 12)}, or " if names else ""
    wrong = [word for word in words if word not in known]
    near = difflib.get_close_matches(wrong[0], names, 1) if wrong else []
    mend = f"did you mean {near[0]}?" if near else "correct the names"
    raise UsageError(field, tuple(words), f"{called}numbers from 0 to {sites - 1}, each once, not all of them", mend)


def without_sites(source: ImageSet, words: Sequence[str]) -> ImageSet:
    """The source without all images of these sites, and a note of them.

    Raises UsageError: there are no such sites, or the source tells none."""
    field, train = "data.left_out_sites", source.train
    if not words:
        return source
    if train.groups is None:
        raise UsageError(field, tuple(words), "() where the source tells no sites", f"--config.{FIELD}=folder")
    there = np.unique(train.groups)
    names = [source.site_names[site] for site in there] if source.site_names else []
    out = there[site_numbers(field, words, names, len(there))]
    every = {role: split for role, split in splits_of(source).items() if split.groups is not None}
    rows = {role: np.isin(split.groups, out) for role, split in every.items()}
    splits = {role: select(split, np.flatnonzero(~rows[role])) for role, split in every.items()}
    gone = sum(int(each.sum()) for each in rows.values())
    told = listing(source.site_names[site] for site in out) if source.site_names else listing(out)
    note = f"Left out by {field}: {told} ({gone} images)."
    return source._replace(**splits, notes=(*source.notes, note))


def site_notes(reading: Reading, grouped: bool) -> list[str]:
    """Which folders were taken for sites, and what would make use of them where nobody asked for them."""
    if "site" not in reading.levels:
        return []
    sites = sorted({readable(part.site) for part in reading.parts["train"] if part.site is not None})
    inside = reading.levels.index("site") < reading.levels.index("class")
    told = f"{'inside' if inside else 'around them'} for classes ({len(sites)} sites): {listing(sites)}."
    told = f"Folders taken for sites, and those {told}"
    return [told if grouped else f"{told} data.group_column=folder makes them the sites of partition.name=natural."]
