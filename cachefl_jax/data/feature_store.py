"""Features are computed once and shared by every run that asks for the same.

An entry is a folder of ``.npy`` arrays and a ``manifest.json``, named by the sha256 of what made it. Features are
written beside it block by block, so that a run which was killed goes on where it stopped, and the folder appears when
it is whole. Two runs that want the same entry at once compute it once.

Axis letters: n rows, V views, D features.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from cachefl_jax.data.feature_blocks import ARRAY, PROGRESS, write_blocks
from cachefl_jax.errors import UsageError
from cachefl_jax.storage.files import file_digest, sync, write_json
from cachefl_jax.storage.home import FEATURES, MANIFEST, home, making, writing
from cachefl_jax.storage.leftovers import remove_leftovers

VERSION = 1  # of the code that computes features: raise it when the same inputs come to give other numbers


class Record(NamedTuple):
    """Small arrays and plain facts, kept together."""

    arrays: dict[str, np.ndarray]
    facts: dict


def digest_of(made_of: Mapping) -> str:
    """The sha256 of what makes an entry, as JSON, and of this code's `VERSION`."""
    text = json.dumps({"version": VERSION, **made_of}, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def obtain(
    made_of: Mapping,
    leading: tuple[int, ...],
    blocks: Callable[[int], Iterator[np.ndarray]],
    what: str,
    about: Mapping | None = None,
    root: pathlib.Path | None = None,
) -> np.ndarray:
    """Features [*leading, D] float32, mapped from the store for reading; computed and kept where they are not there.

    Args:
        made_of: all that determines the features, as JSON: weights, preparation, data type, views, images.
        leading: (n,) or (V, n).
        blocks: called with a row number where features are missing; gives successive [b, D] from that row on, the
            rows counted through all leading axes. Only this call needs an encoder.
        what: the name of these features in messages and in the table of entries.
        about: what else the table is to tell, such as {"encoder": its name}.
        root: the folder whose ``features/`` holds the entries; $CACHEFL_HOME or ~/.cache/cachefl_jax if not given.

    Raises UsageError: the folder cannot be written, or what is stored is damaged."""

    def fill(aside: pathlib.Path) -> dict:
        width, checksum = write_blocks(aside, leading, blocks, what)
        return {"arrays": {ARRAY: {"shape": [*leading, width], "sha256": checksum}}}

    folder, manifest = entry(made_of, fill, what, about, root)
    features = open_array(folder, ARRAY, manifest)
    if features.shape[:-1] != tuple(leading):
        raise damaged(folder / ARRAY, f"shape {features.shape}", f"{leading} and D, what was asked for")
    return features


def obtain_record(
    made_of: Mapping,
    compute: Callable[[], Record],
    what: str,
    about: Mapping | None = None,
    root: pathlib.Path | None = None,
) -> Record:
    """As `obtain`, of what is small and computed in one go: text features, a logit scale, a number of bytes.

    Args:
        made_of: all that determines the record, as JSON.
        compute: gives it where it is missing; its arrays are plain, its facts are JSON.

    Raises UsageError: as `obtain`."""

    def fill(aside: pathlib.Path) -> dict:
        record = compute()
        for name, array in record.arrays.items():
            with writing(aside), (aside / f"{name}.npy").open("wb") as file:
                np.save(file, array, allow_pickle=False)
                sync(file)
        arrays = {
            f"{name}.npy": {"shape": list(array.shape), "sha256": file_digest(aside / f"{name}.npy")}
            for name, array in record.arrays.items()
        }
        return {"arrays": arrays, "facts": record.facts}

    folder, manifest = entry(made_of, fill, what, about, root)
    arrays = {name.removesuffix(".npy"): open_array(folder, name, manifest) for name in manifest["arrays"]}
    return Record(arrays, manifest.get("facts", {}))


def entry(
    made_of: Mapping, fill: Callable[[pathlib.Path], dict], what: str, about: Mapping | None, root: pathlib.Path | None
) -> tuple[pathlib.Path, dict]:
    """The folder of an entry and its manifest; `fill` is asked to write what is missing."""
    digest = digest_of(made_of)
    folder = (root or home()) / FEATURES / digest[:16]
    manifest = {"digest": digest, "what": what, "made_of": made_of, "about": about or {}}
    with making(folder, f"{what}: another run computes these features; waiting for it", begun) as aside:
        if aside:
            with writing(folder.parent):
                remove_leftovers(aside, (MANIFEST,))  # or they would become part of the entry
                write_json(aside / MANIFEST, manifest)  # a leftover tells what it was to become
            started = time.monotonic()
            manifest |= fill(aside)
            manifest["made_at"] = time.strftime("%Y-%m-%dT%H:%M:%S%z")
            manifest["seconds"] = round(time.monotonic() - started, 2)
            with writing(folder.parent):
                write_json(aside / MANIFEST, manifest)
                (aside / PROGRESS).unlink(missing_ok=True)
    return folder, read_manifest(folder, digest)


def begun(aside: pathlib.Path) -> bool:
    """Whether a block lies in the folder."""
    try:
        return (aside / PROGRESS).stat().st_size > 0
    except OSError:
        return False


def read_manifest(folder: pathlib.Path, digest: str) -> dict:
    """The manifest of a whole entry, marked as used now."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text())
        found = manifest["digest"]
        names = list(manifest["arrays"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise damaged(path, f"{type(error).__name__}: {error}", "a whole manifest") from error
    if found != digest or any("/" in name for name in names):
        raise damaged(path, f"digest {found}", f"digest {digest}")
    with contextlib.suppress(OSError):  # a store that others wrote may be read-only
        os.utime(path)
    return manifest


def open_array(folder: pathlib.Path, name: str, manifest: dict) -> np.ndarray:
    """One array of an entry, mapped for reading; its size and shape are checked, its bytes by `verify` alone."""
    path = folder / name
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        expected = tuple(manifest["arrays"][name]["shape"])
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise damaged(path, f"{type(error).__name__}: {error}", "a whole array") from error
    if array.shape != expected or path.stat().st_size != array.offset + array.nbytes:
        raise damaged(path, f"shape {array.shape}", f"shape {expected} and no byte more, as in {MANIFEST}")
    return array


def damaged(path: pathlib.Path, found: str, allowed: str) -> UsageError:
    return UsageError(str(path), found, allowed, f"delete {path.parent} and it is computed again")
