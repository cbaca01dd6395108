"""A drawn set as it lies in the store: read without its images, which are decoded when asked for, and checked.

Axis letter: n images.
"""

import contextlib
import json
import os
import pathlib
from typing import NamedTuple

import numpy as np

from cachefl_jax.data.file_bytes import bytes_digest
from cachefl_jax.data.images import Images, fingerprint_of, read_image
from cachefl_jax.errors import UsageError
from cachefl_jax.storage.files import file_digest
from cachefl_jax.storage.home import MANIFEST
from cachefl_jax.synthesis.request import Request, request_digest, request_in
from cachefl_jax.synthesis.set_files import LINES, Line, file_names, first_fault, read_lines

OLD = "images.npz"  # what older versions kept a set in


class SyntheticSet(NamedTuple):
    """What was drawn."""

    images: Images  # n of them, class by class, each decoded when asked for
    labels: np.ndarray  # [n] int32, an index into the request's class_names
    manifest: dict


class Told(NamedTuple):
    """What a set's folder tells of it."""

    manifest: dict
    request: Request
    lines: list[Line]  # n of them


def read(folder: pathlib.Path, digest: str, root: pathlib.Path | None = None) -> SyntheticSet:
    """Opens a stored set, whose every byte is as it was written. Files that the file system says are as they were when
    they were read last are not read again.

    Args:
        digest: the one that the request has now.
        root: the store that remembers the files' digests, as of `home.memory_of`.

    Raises UsageError: the set is damaged; names the file."""
    manifest, request, lines = read_told(folder)
    if manifest["digest"] != digest:
        raise damaged(folder, MANIFEST, "another request's manifest", f"the digest {digest}")
    paths = [str(folder / line.name) for line in lines]
    found = bytes_digest(paths, f"set-{digest[:16]}", "drawn images", root)
    if found != fingerprint_of(*(line.sha256 for line in lines)):
        raise damaged_file(folder, lines)
    with contextlib.suppress(OSError):  # a store that others wrote may be read-only
        os.utime(folder / MANIFEST)  # used now
    images = Images(len(paths), lambda row: read_image(paths[row]), paths.__getitem__, files=True)
    return SyntheticSet(images, request.labels, manifest)


def read_told(folder: pathlib.Path) -> Told:
    """The manifest and the lines of a set, held against one another; no image is read.

    Raises UsageError: one of the two is damaged."""
    if (folder / OLD).is_file():
        raise damaged(folder, OLD, "a set that an older version drew", "a file for every image")
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        request = request_in(manifest)
        weights, digest = manifest["weights_sha256"], manifest["digest"]
        told = [digest, *(manifest[f"{part}_sha256"] for part in ("images", "labels", "files"))]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise damaged(folder, MANIFEST, f"{type(error).__name__}: {error}", "a whole manifest") from error
    names = file_names(request)
    lines = read_lines(folder, names)
    if len(lines) < len(names):
        raise damaged(folder, LINES, f"{len(lines)} sound lines", f"one for each of {len(names)} images")
    digests = [fingerprint_of(*(line.pixels_sha256 for line in lines)), fingerprint_of(request.labels)]
    if [request_digest(request, weights), *digests, file_digest(folder / LINES)] != told:
        raise damaged(folder, MANIFEST, "other content than was drawn", f"what fits {LINES}")
    return Told(manifest, request, lines)


def damaged_file(folder: pathlib.Path, lines: list[Line]) -> UsageError:
    """Names the first image's file that has other bytes than were written."""
    name = lines[min(first_fault(folder, lines), len(lines) - 1)].name
    found = "other bytes than were written" if (folder / name).is_file() else "nothing there"
    return damaged(folder, name, found, f"the sha256 in {LINES}")


def damaged(folder: pathlib.Path, name: str, found: str, allowed: str) -> UsageError:
    return UsageError(str(folder / name), found, allowed, f"delete {folder} and it is drawn again")
