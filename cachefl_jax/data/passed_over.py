"""What of a folder of images no split takes in: it is counted, and where it leaves nothing, it is why."""

import pathlib
from collections.abc import Iterator, Sequence

from cachefl_jax.data.class_names import readable
from cachefl_jax.data.classes import LEFT_OUT, Classes
from cachefl_jax.data.layout import Part, Reading
from cachefl_jax.data.tree import FIELD, Folder, kinds_of
from cachefl_jax.errors import UsageError, listing


def number_of(part: Part, classes: Classes) -> int:
    """The number of a part's class; LEFT_OUT for none."""
    return classes.numbers.get(readable(part.class_name), LEFT_OUT)


def check_filled(root: pathlib.Path, tree: Folder, parts: Sequence[Part], classes: Classes) -> None:
    """Refuses training folders without any image where other files lie in them, which the refusal counts.

    Raises UsageError: says what is there instead of images."""
    counts: dict[str, int] = {}
    others: dict[str, list[str]] = {}
    for part in parts:
        if number_of(part, classes) != LEFT_OUT:
            name = readable(part.class_name)
            counts[name] = counts.get(name, 0) + part.folder.images
            others.setdefault(name, []).extend(path for each in part.folder.below() for path in each.others)
    allowed, advice = "image files that can be decoded", "convert them, to PNG or JPEG for instance"
    there = [path for each in tree.below() for path in each.others]
    if not any(counts.values()) and there:
        found = f"no images in the train split ({root} holds {kinds_of(there)})"
        raise UsageError(FIELD, found, allowed, advice)
    lacking = [f"{name} ({kinds_of(others[name])})" for name in counts if not counts[name] and others[name]]
    if lacking:
        found = f"classes without training images ({len(lacking)}): {listing(lacking)}"
        raise UsageError(FIELD, found, allowed, advice)


def passed_over(tree: Folder, reading: Reading, classes: Classes) -> list[str]:
    """Notes of the folders and files that were passed over, and of the folder that was read instead of the root."""
    parts = [part for of_role in reading.parts.values() for part in of_role or ()]
    left_out = [part for part in parts if number_of(part, classes) == LEFT_OUT]
    skipped = {folder.path for folder in reading.beside} | {part.folder.path for part in left_out}
    read = {part.folder.path for part in parts}
    seen = list(folders_seen(tree, skipped, read))
    strays = sorted(file.path for folder, inside in seen if not inside for file in folder.files)
    others = sorted(path for folder, _ in seen for path in folder.others)
    notes = []
    if reading.outer.path:
        notes.append(f"The folders were read from {readable(reading.outer.path)} on.")
    if reading.beside:
        told = [f"{each.path} ({each.images} images)" if each.images else each.path for each in reading.beside]
        notes.append(f"Folders beside the splits were passed over: {listing(told)}.")
    if left_out:
        count, names = sum(part.folder.images for part in left_out), {readable(part.class_name) for part in left_out}
        notes.append(f"Folders of none of the classes were passed over ({count} images): {listing(sorted(names))}.")
    if strays:
        notes.append(f"Images outside the folders of classes were passed over ({len(strays)}): {listing(strays)}.")
    if others:
        notes.append(f"Files passed over, being no images ({len(others)}): {listing(others)}.")
    return notes


def folders_seen(folder: Folder, skipped: set[str], read: set[str], inside: bool = False) -> Iterator[tuple]:
    """(a folder, whether its images are some class's) for this folder and all below it, but for those skipped."""
    if folder.path in skipped:
        return
    inside = inside or folder.path in read
    yield folder, inside
    for each in folder.folders.values():
        yield from folders_seen(each, skipped, read, inside)
