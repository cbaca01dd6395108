"""A folder with all that lies in it: the image files, what is no image, and the folders inside."""

import collections
import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from cachefl_jax.data.formats import is_image
from cachefl_jax.errors import UsageError

FIELD = "data.path"
ARCHIVES = {"__MACOSX"}  # what other systems' archivers leave behind; hidden files are passed over anyway


class File(NamedTuple):
    """An image file, as far as it is known without opening it."""

    path: str  # relative to the root, with /
    size: int  # bytes
    changed: int  # nanoseconds


class Folder(NamedTuple):
    """A folder, read once. Paths are relative to the root, with /."""

    path: str  # "" for the root
    files: list[File]  # images directly in it, sorted
    others: list[str]  # files directly in it that are no images
    folders: "dict[str, Folder]"  # by name, sorted; without hidden ones
    images: int  # in it and below

    @property
    def filled(self) -> "dict[str, Folder]":
        """The folders with images in them or below."""
        return {name: folder for name, folder in self.folders.items() if folder.images}

    def below(self) -> "Iterator[Folder]":
        """This folder and all below it."""
        yield self
        for folder in self.folders.values():
            yield from folder.below()


def read_tree(root: pathlib.Path) -> Folder:
    """Everything in `root`; links are followed, but not back into a folder that they lie in.

    Raises UsageError: a folder cannot be read, or folders lie in each other without end."""
    try:
        return read_folder(os.fspath(root), "", ())
    except RecursionError as error:
        found = f"{root} (hundreds of folders in one another)"
        raise UsageError(FIELD, found, "a few levels of folders", "name the folder of the class folders") from error


def read_folder(place: str, path: str, above: tuple) -> Folder:
    """The folder at `place`, called `path` from the root; `above` are the identities of those around it."""
    here = (*above, identity(place))
    files, others, folders, start = [], [], {}, f"{path}/" if path else ""
    for entry in sorted(entries(place), key=lambda entry: entry.name):
        name = f"{start}{entry.name}"
        try:
            if entry.is_dir():
                if entry.name not in ARCHIVES and identity(entry.path) not in here:
                    folders[entry.name] = read_folder(entry.path, name, here)
                continue
            status = entry.stat()
        except OSError:  # a link to nothing, or to itself
            others.append(name)
            continue
        if entry.is_file() and is_image(entry.path):
            files.append(File(name, status.st_size, status.st_mtime_ns))
        else:
            others.append(name)
    return Folder(path, files, others, folders, len(files) + sum(folder.images for folder in folders.values()))


def entries(folder: str | pathlib.Path) -> list[os.DirEntry]:
    """What a folder holds, without what is hidden."""
    try:
        with os.scandir(folder) as scan:
            return [entry for entry in scan if not entry.name.startswith(".")]
    except OSError as error:
        mend = "give yourself the right to read it, or move it away"
        raise UsageError(FIELD, f"{folder} ({error.strerror})", "a folder that can be read", mend) from error


def identity(folder: str) -> tuple[int, int]:
    """What a folder is known by, whatever link leads to it."""
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def kinds_of(names: Iterable[str], shown: int = 3) -> str:
    """How many files there are of each suffix, the most frequent first: "12 .heic, 3 .txt"."""
    counts = collections.Counter(os.path.splitext(name)[1].lower() or "without suffix" for name in names)
    texts = [f"{count} {suffix}" for suffix, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))]
    return ", ".join(texts[:shown]) + (f" and {len(texts) - shown} more kinds" if len(texts) > shown else "")
