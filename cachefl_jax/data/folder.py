"""Images in folders: split folders of class folders, class folders alone, or a file that says which image is where.

    root/train/cat/1.jpg    root/val/cat/2.jpg    root/test/cat/3.jpg
    root/cat/1.jpg          validation and test are held out of all
    root/site1/cat/1.jpg    sites around the classes, or root/cat/site1/1.jpg inside them
    root/any/where/1.jpg    data.split_file says the rest (split_file.py)

`cachefl_jax.data.layout` reads off which it is. Images may lie in folders inside a class folder. With
data.group_column=folder the folders of sites say which site an image came from.
"""

import contextlib
import functools
import hashlib
import os
import pathlib
import stat
from collections.abc import Callable, Collection, Sequence

import numpy as np

from cachefl_jax.data.class_names import alike_note, on_disk, readable
from cachefl_jax.data.classes import LEFT_OUT, Classes, in_order, name_classes, plain
from cachefl_jax.data.images import TEMPLATES, Images, ImageSet, LabelledImages, read_image
from cachefl_jax.data.layout import Part, Question, read_layout
from cachefl_jax.data.passed_over import check_filled, number_of, passed_over
from cachefl_jax.data.sites import (
    check_column,
    check_listed_sites,
    check_sites,
    listed_sites,
    number_sites,
    site_notes,
)
from cachefl_jax.data.split_file import read_split_file
from cachefl_jax.data.splits import ROLES
from cachefl_jax.data.tree import FIELD, File, read_tree
from cachefl_jax.errors import UsageError, listing

SAMPLED = 64  # files whose bytes the fingerprint heeds


def load(
    data, name: Callable | None = None, templates: tuple[str, ...] = TEMPLATES, known: Collection[str] = ()
) -> ImageSet:
    """The images under data.path; validation and test are None where the folders have none.

    The fingerprint is of the files' paths, sizes, times of change and labels, and of the bytes of a few: so 60,000
    files take a fraction of a second, of which a run may choose some (`file_bytes.heed_bytes` reads those). Touching a
    file therefore changes it.

    Args:
        data: the config's data group (path, layout, splits, split_file, class_names, group_column).
        name: what numbers the classes by their folders' names (sorted) or a split file's; `name_classes` if not given.
        known: names that the classes may have, where these are known beforehand: they tell classes from sites.

    Raises UsageError: the folder is not there, or holds no images in a known layout."""
    root, grouped = find_root(data.path), bool(data.group_column)
    check_column(data.group_column)
    name = name or functools.partial(name_classes, given=tuple(data.class_names))
    if data.split_file:
        rows, classes, notes = read_split_file(data.split_file, root, name)
        splits = {role: listed(root, rows[role]) if rows[role] else None for role in ROLES}
        sites = {role: listed_sites(split) for role, split in splits.items() if grouped and split is not None}
        if grouped:
            check_listed_sites(splits["train"], sites["train"], classes.names)
        splits, site_names = number_sites(splits, sites)
        return ImageSet(**splits, class_names=classes.names, templates=templates, notes=notes, site_names=site_names)
    tree = read_tree(root)
    names = frozenset(plain(each) for each in (*known, *data.class_names))
    reading = read_layout(tree, Question(root, data.layout, tuple(data.splits), grouped, names))
    classes = name(in_order({readable(part.class_name) for part in reading.parts["train"]}))
    check_filled(root, tree, reading.parts["train"], classes)
    splits, sites = dict.fromkeys(ROLES), {}
    for role, parts in reading.parts.items():
        if parts is not None:
            splits[role], sites[role] = of_parts(root, role, parts, classes)
    if grouped:
        check_sites(splits["train"], sites["train"])
    splits, site_names = number_sites(splits, sites if grouped else {})
    notes = (*passed_over(tree, reading, classes), *site_notes(reading, grouped))
    return ImageSet(**splits, class_names=classes.names, templates=templates, notes=notes, site_names=site_names)


def find_root(path: str) -> pathlib.Path:
    """The folder, if there is one."""
    root = pathlib.Path(path).expanduser()
    if not path or not root.is_dir():
        found = "nothing" if not path else f"{path} ({'a file' if root.is_file() else 'not there'})"
        raise UsageError(FIELD, found, "the folder that holds the images", "correct the path; unpack archives first")
    return root


def of_parts(
    root: pathlib.Path, role: str, parts: Sequence[Part], classes: Classes
) -> tuple[LabelledImages, list[str | None]]:
    """(the images of one split, class by class, in each sorted by path; the site [n] of each, where it has one).

    Raises UsageError: the split has a class that training lacks."""
    names = in_order({readable(part.class_name) for part in parts})
    unknown = [name for name in names if name not in classes.numbers]
    if unknown:
        found = f"{role} (classes that training lacks: {listing(unknown)}{alike_note(unknown, classes.numbers)})"
        raise UsageError(FIELD, found, f"the {len(classes.names)} class folders of training", "rename or remove them")
    rows = [
        (number, file, part.site)
        for part in parts
        if (number := number_of(part, classes)) != LEFT_OUT
        for each in part.folder.below()
        for file in each.files
    ]
    rows.sort(key=lambda row: row[:2])
    split = labelled(root, [file for _, file, _ in rows], np.array([number for number, _, _ in rows], np.int32))
    return split, [site for _, _, site in rows]


def listed(root: pathlib.Path, rows: Sequence[tuple[str, int]]) -> LabelledImages:
    """The images that a split file lists as (path, label).

    Raises UsageError: files are not there, or are folders, pipes or devices; the first few are named."""
    files, missing = [], []
    for text, _ in rows:
        try:
            path = on_disk(text)
            status = os.stat(os.path.join(root, path))
        except (OSError, ValueError):  # the latter: a name that no file can have
            missing.append(text)
            continue
        if stat.S_ISREG(status.st_mode):
            files.append(File(path, status.st_size, status.st_mtime_ns))
        else:  # whoever reads a pipe may wait for ever
            missing.append(f"{text} (no regular file)")
    if missing:
        found = f"{len(missing)} of {len(rows)} listed files are not in {root}: {listing(missing)}"
        raise UsageError(FIELD, found, "the folder that the listed paths start from", "correct the path")
    return labelled(root, files, np.array([label for _, label in rows], np.int32))


def labelled(root: pathlib.Path, files: Sequence[File], labels: np.ndarray) -> LabelledImages:
    """Files with their labels [n] as a split.

    The fingerprint heeds what the file system says of every file and the bytes of a few: other images may have the same
    names, sizes and times, where these were set by a packer."""
    start, paths, digest = os.fspath(root), [file.path for file in files], hashlib.sha256()
    for row in np.unique(np.linspace(0, len(paths) - 1, SAMPLED).astype(int)) if paths else ():
        with contextlib.suppress(OSError), open(os.path.join(start, paths[row]), "rb") as file:
            digest.update(file.read())
    for file, label in zip(files, labels.tolist(), strict=True):
        digest.update(os.fsencode(f"{file.path}\0{file.size}\0{file.changed}\0{label}\n"))

    def name(row: int) -> str:
        return os.path.join(start, paths[row])

    images = Images(len(paths), lambda row: read_image(name(row)), name, files=True)
    return LabelledImages(images, labels, digest.hexdigest())
