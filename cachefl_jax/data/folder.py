"""Images in folders: split folders of class folders, class folders alone, or a file that says which image is where.

    root/train/cat/1.jpg    root/val/cat/2.jpg    root/test/cat/3.jpg
    root/cat/1.jpg          validation and test are held out of all
    root/any/where/1.jpg    data.split_file says the rest (split_file.py)

Images may lie in folders inside a class folder. With data.group_column=folder these are the sites that the images came
from: root/train/cat/hospital_a/1.jpg.
"""

import contextlib
import functools
import hashlib
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from cachefl_jax.data.classes import LEFT_OUT, Classes, in_order, name_classes
from cachefl_jax.data.images import TEMPLATES, Images, ImageSet, LabelledImages, listing, read_image
from cachefl_jax.data.split_file import read_split_file
from cachefl_jax.data.splits import ROLES, find_split, find_splits
from cachefl_jax.errors import UsageError

FIELD = "data.path"
SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"}
SAMPLED = 64  # files whose bytes the fingerprint heeds
ARCHIVES = {"__MACOSX"}  # what other systems' archivers leave behind; hidden files are passed over anyway


class File(NamedTuple):
    """An image file, as far as it is known without opening it."""

    path: str  # relative to the root, with /
    size: int  # bytes
    changed: int  # nanoseconds


def load(data, name: Callable | None = None, templates: tuple[str, ...] = TEMPLATES) -> ImageSet:
    """The images under data.path; validation and test are None where the folders have none.

    The fingerprint is of the files' paths, sizes, times of change and labels, and of the bytes of a few: so 60,000
    files take a fraction of a second. Touching a file therefore changes it.

    Args:
        data: the config's data group (path, splits, split_file, class_names).
        name: what numbers the classes by their folders' names (sorted) or a split file's; `name_classes` if not given.
        templates: prompts of the data set.

    Raises:
        UsageError: the folder is not there, or holds no images in a known layout.
    """
    root = find_root(data.path)
    name = name or functools.partial(name_classes, given=tuple(data.class_names))
    if data.split_file:
        rows, classes, notes = read_split_file(data.split_file, root, name)
        splits = {role: listed(root, rows[role]) if rows[role] else None for role in ROLES}
        if data.group_column:
            splits["train"] = with_sites(splits["train"], None, data.group_column)
        return ImageSet(**splits, class_names=classes.names, templates=templates, notes=notes)
    folders, notes = layout(root, data.splits)
    inside = {role: folders_in(folder) for role, folder in folders.items() if folder}
    for role, names in inside.items():
        if not names:
            found = f"{folders[role]} (no folders in it)"
            raise UsageError(FIELD, found, "a folder of each class", "sort the images by class")
    classes = name(in_order(inside["train"]))
    splits, others = dict.fromkeys(ROLES), []
    for role, names in inside.items():
        splits[role] = walked(root, folders[role], numbers_of(folders[role], names, classes), others)
    if data.group_column:
        splits["train"] = with_sites(splits["train"], folders["train"], data.group_column)
    if others:
        notes = (*notes, f"Files passed over, being no images ({len(others)}): {listing(others)}.")
    return ImageSet(**splits, class_names=classes.names, templates=templates, notes=notes)


def find_root(path: str) -> pathlib.Path:
    """The folder, if there is one."""
    root = pathlib.Path(path).expanduser()
    if not path or not root.is_dir():
        found = "nothing" if not path else f"{path} ({'a file' if root.is_file() else 'not there'})"
        raise UsageError(FIELD, found, "the folder that holds the images", "correct the path; unpack archives first")
    return root


def layout(root: pathlib.Path, wanted: Sequence[str]) -> tuple[dict[str, pathlib.Path | None], tuple[str, ...]]:
    """The folder of each split, and notes; class folders alone are all training rows.

    A class may be called train (or test): with images directly in it, among other classes, it is no split.

    Raises:
        UsageError: there are no folders, or split folders without one of those wanted.
    """
    there = folders_in(root)
    usual = all(name in ("", role) for role, name in zip(ROLES, wanted, strict=True))
    train, *rest = found = [name and find_split(name, there) for name in wanted]
    nested = any(name and not has_images(root / name) for name in found)
    if usual and not nested and not (train and any(rest)):
        return {"train": root, "validation": None, "test": None}, ()
    splits = find_splits(wanted, there, str(root))
    beside = [name for name in there if name not in found]
    notes = (f"Folders beside the splits were passed over: {listing(beside)}.",) if beside else ()
    return {role: root / name if name else None for role, name in splits.items()}, notes


def has_images(folder: pathlib.Path) -> bool:
    return any(is_image(entry.name) for entry in entries(folder))


def is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES


def folders_in(folder: pathlib.Path) -> list[str]:
    """The folders directly in a folder, sorted, without hidden ones."""
    return sorted(entry.name for entry in entries(folder) if is_folder(entry) and entry.name not in ARCHIVES)


def is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def entries(folder: str | pathlib.Path) -> list[os.DirEntry]:
    """What a folder holds, without what is hidden."""
    try:
        with os.scandir(folder) as scan:
            return [entry for entry in scan if not entry.name.startswith(".")]
    except OSError as error:
        mend = "mend who may read it"
        raise UsageError(FIELD, f"{folder} ({error.strerror})", "a folder that can be read", mend) from error


def numbers_of(folder: pathlib.Path, names: Sequence[str], classes: Classes) -> dict[str, int]:
    """The number of each class folder of a split; one that training lacks is refused."""
    unknown = [name for name in names if name not in classes.numbers]
    if unknown:
        found = f"{folder} (classes that training lacks: {listing(unknown)})"
        raise UsageError(FIELD, found, f"the {len(classes.names)} class folders of training", "rename or remove them")
    return {name: classes.numbers[name] for name in names}


def walked(root: pathlib.Path, folder: pathlib.Path, numbers: dict[str, int], others: list[str]) -> LabelledImages:
    """The images in the class folders of one split, class by class, sorted; other files are added to `others`."""
    files, labels, start = [], [], "" if folder == root else f"{folder.name}/"
    above = (identity(root), identity(folder))
    for name, number in sorted(numbers.items(), key=lambda pair: pair[1]):
        if number == LEFT_OUT:
            continue
        inside = sorted(images_below(os.path.join(folder, name), f"{start}{name}", others, above))
        files += inside
        labels += [number] * len(inside)
    return labelled(root, files, np.array(labels, np.int32))


def with_sites(split: LabelledImages, folder: pathlib.Path | None, column: str) -> LabelledImages:
    """The split with the site of every image: the name of the folder that it lies in, directly below its class's.

    Args:
        split: the training images.
        folder: what holds the class folders; None for listed images, whose site is the folder that they lie in.
        column: data.group_column.

    Raises:
        UsageError: `column` is another than "folder", or an image lies in a class folder directly.
    """
    if column != "folder":
        raise UsageError(
            "data.group_column", column, "folder, for images in folders", "--config.data.group_column=folder"
        )
    names = []
    for row in range(len(split.labels)):
        path = pathlib.PurePath(split.images.name(row))
        below = path.parts[-2:] if folder is None else path.relative_to(folder).parts[1:]  # site, ..., file
        if len(below) < 2:
            found = f"folder, but {path} lies in none of a site"
            raise UsageError("data.group_column", found, "a folder of its site around every image", "sort them by site")
        names.append(below[0])
    return split._replace(groups=np.unique(names, return_inverse=True)[1].astype(np.int32))


def identity(folder: str | pathlib.Path) -> tuple[int, int]:
    """What a folder is known by, whatever link leads to it."""
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def images_below(folder: str, relative: str, others: list[str], above: tuple) -> Iterator[File]:
    """The image files in a folder and those in it; links are followed, but not back into a folder `above`."""
    here = identity(folder)
    if here in above:
        return
    for entry in entries(folder):
        path = f"{relative}/{entry.name}"
        try:
            if entry.is_dir():
                if entry.name not in ARCHIVES:
                    yield from images_below(entry.path, path, others, (*above, here))
                continue
            status = entry.stat()
        except OSError:  # a link to nothing, or to itself
            others.append(path)
            continue
        if is_image(entry.name) and entry.is_file():
            yield File(path, status.st_size, status.st_mtime_ns)
        else:
            others.append(path)


def listed(root: pathlib.Path, rows: Sequence[tuple[str, int]]) -> LabelledImages:
    """The images that a split file lists as (path, label).

    Raises:
        UsageError: files are not there; the first few are named.
    """
    files, missing = [], []
    for path, _ in rows:
        try:
            status = os.stat(os.path.join(root, path))
            files.append(File(path, status.st_size, status.st_mtime_ns))
        except (OSError, ValueError):
            missing.append(path)
    if missing:
        found = f"{len(missing)} of {len(rows)} listed files are not in {root}: {listing(missing)}"
        raise UsageError(FIELD, found, "the folder that the listed paths start from", "correct the path")
    return labelled(root, files, np.array([label for _, label in rows], np.int32))


def labelled(root: pathlib.Path, files: Sequence[File], labels: np.ndarray) -> LabelledImages:
    """Files with their labels [n] as a split.

    The fingerprint heeds what the file system says of every file and the bytes of a few: other images may have the same
    names, sizes and times, where these were set by a packer.
    """
    start, paths, digest = os.fspath(root), [file.path for file in files], hashlib.sha256()
    for row in np.unique(np.linspace(0, len(paths) - 1, SAMPLED).astype(int)) if paths else ():
        with contextlib.suppress(OSError), open(os.path.join(start, paths[row]), "rb") as file:
            digest.update(file.read())
    for file, label in zip(files, labels.tolist(), strict=True):
        digest.update(os.fsencode(f"{file.path}\0{file.size}\0{file.changed}\0{label}\n"))
    images = Images(
        len(paths), lambda row: read_image(os.path.join(start, paths[row])), lambda row: os.path.join(start, paths[row])
    )
    return LabelledImages(images, labels, digest.hexdigest())
