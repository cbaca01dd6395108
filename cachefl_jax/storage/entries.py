"""What lies in CACHEFL_HOME: listed, checked byte by byte, and thrown away on demand.

Features, drawn sets and prompts are folders with a manifest. Compiled programs, plans, verdicts on images and digests
of files are small files: losing one costs the time to make it again.
"""

import contextlib
import json
import pathlib
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from cachefl_jax.errors import UsageError
from cachefl_jax.storage.files import file_digest, json_if_whole
from cachefl_jax.storage.home import COMPILED, FEATURES, FILES, FOLDERS, LOCK, MANIFEST, PARTIAL, home, locked, writing
from cachefl_jax.storage.leftovers import UNTOUCHED, remove_leftovers

DAY, GIB = 24 * 3600, 2**30
KINDS = (*FOLDERS, *FILES)
GOING = re.compile(r"\..+\.[0-9a-f]{32}")  # a folder that is being deleted, or that older versions drew into
HALF = re.compile(r"\..+\.[a-z0-9_]{8}")  # a file that older versions were writing


class Entry(NamedTuple):
    """What can be thrown away by itself: a folder of the store, or in stores of small files one of these."""

    folder: pathlib.Path  # or the file
    manifest: dict  # empty where it cannot be read
    byte_count: int
    used: float  # seconds since 1970
    whole: bool  # otherwise what a run left that was stopped, or is at work on
    kind: str = FEATURES  # the store's name


def all_entries(root: pathlib.Path | None = None) -> list[Entry]:
    """What lies in all stores, the last used first."""
    return sorted((entry for kind in KINDS for entry in entries(root, kind)), key=order)


def entries(root: pathlib.Path | None = None, kind: str = FEATURES) -> list[Entry]:
    """All entries and leftovers of one store, the last used first."""
    folder = (root or home()) / kind
    if kind in FILES:
        return sorted(file_entries(folder), key=order)
    places = [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    found = (read_entry(path)._replace(kind=kind) for path in places if not GOING.fullmatch(path.name))
    return sorted(found, key=order)


def order(entry: Entry) -> tuple[float, str]:
    """What puts the last used first."""
    return -entry.used, entry.folder.name


def file_entries(folder: pathlib.Path) -> Iterator[Entry]:
    """The files of a store of small ones; a program counts as used when it was last read."""
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # a run at work replaces its files
            stat = path.stat()
            if path.is_file() and not path.name.startswith("."):
                yield Entry(path, {}, stat.st_size, max(stat.st_mtime, stat.st_atime), True, folder.name)


def read_entry(folder: pathlib.Path) -> Entry:
    stats = []
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # a run at work renames its files
            stats.append(path.stat())
    manifest = json_if_whole(folder / MANIFEST)
    try:
        used = (folder if manifest is None else folder / MANIFEST).stat().st_mtime
    except OSError:  # gone meanwhile
        used = folder.stat().st_mtime
    manifest = manifest if is_manifest(manifest) else {}
    whole = not folder.name.startswith(".")
    if not whole:
        used = max([used, *(stat.st_mtime for stat in stats)])
    return Entry(folder, manifest, sum(stat.st_size for stat in stats), used, whole)


def is_manifest(value: object) -> bool:
    """Whether a run may have written it."""
    if not isinstance(value, dict) or not isinstance(value.get("made_at", ""), str):
        return False
    arrays, made_of, about = (value.get(name, {}) for name in ("arrays", "made_of", "about"))
    if not all(isinstance(group, dict) for group in (arrays, made_of, about)):
        return False
    views = made_of.get("views") or {"count": 0, "use": ""}
    if not isinstance(views, dict) or not {"count", "use"} <= views.keys():
        return False
    return all(isinstance(array, dict) and isinstance(array.get("shape"), list) for array in arrays.values())


def faults(entry: Entry) -> list[str]:
    """What is wrong with a whole entry of features or prompts, every byte read, or with a file that ought to be JSON;
    nothing if it is as it was written."""
    if entry.kind == COMPILED:  # JAX's own; one that it cannot read is compiled anew
        return []
    if entry.kind in FILES:
        try:
            json.loads(entry.folder.read_text())
        except (OSError, ValueError, RecursionError) as error:
            return [f"cannot be read ({type(error).__name__})"]
        return []
    if not isinstance(entry.manifest.get("arrays"), dict):
        return [f"{MANIFEST} is damaged"]
    found = []
    for name, expected in entry.manifest["arrays"].items():
        path = entry.folder / name
        try:
            if file_digest(path) != expected["sha256"]:
                found.append(f"{name} has other bytes than were written")
        except (OSError, KeyError, TypeError) as error:
            found.append(f"{name} cannot be read ({type(error).__name__})")
    return found


def to_prune(
    found: Sequence[Entry], older_than_days: float | None, keep_gib: float | None, now: float | None = None
) -> list[Entry]:
    """Of entries in order, the last used first: those not used for so many days, and those beyond so many GiB."""
    now, held, chosen = now or time.time(), 0, []
    for entry in found:
        if older_than_days is not None and now - entry.used > older_than_days * DAY:
            chosen.append(entry)
            continue
        held += entry.byte_count
        if keep_gib is not None and held > keep_gib * GIB:
            chosen.append(entry)
    return chosen


def delete(entry: Entry) -> bool:
    """Removes an entry of any kind, a folder with its lock; False where a run is at work on it. Whoever has it open
    keeps what it has."""
    if entry.kind == COMPILED:
        with writing(entry.folder.parent):
            entry.folder.unlink(missing_ok=True)
        return True
    name = entry.folder.name.removeprefix(".").removesuffix(PARTIAL)
    with locked(entry.folder.with_name(name), None) as held, writing(entry.folder.parent):
        if held and entry.kind in FILES:
            entry.folder.unlink(missing_ok=True)
        elif held:
            gone = entry.folder.with_name(f".{name}.{uuid.uuid4().hex}")
            entry.folder.rename(gone)  # at once: no reader sees half of it
            shutil.rmtree(gone)
    return held


def remove_remains(root: pathlib.Path | None = None) -> None:
    """Removes what killed processes left in every store: half-written files, folders that were going, and locks. What
    was computed or drawn in part stays, as a run goes on from there."""
    for folder in ((root or home()) / kind for kind in KINDS):
        if not folder.is_dir():
            continue
        for place in (folder, *folder.glob(f".*{PARTIAL}")):
            remove_leftovers(place)
        for path in list(folder.iterdir()):
            if GOING.fullmatch(path.name):
                remove_going(path)
            elif HALF.fullmatch(path.name) and path.is_file() and age(path) > UNTOUCHED:
                path.unlink(missing_ok=True)
        for path in folder.glob(f".*{LOCK}"):  # of runs that were killed and left nothing else: to hold one removes it
            with locked(path.with_name(path.name.removeprefix(".").removesuffix(LOCK)), None):
                pass


def tidy_stores() -> None:
    """`remove_remains` as every run does it first; stores that are not to be written stay as they are."""
    with contextlib.suppress(UsageError, OSError):
        remove_remains()


def remove_going(path: pathlib.Path) -> None:
    """Removes a folder that a killed process was removing or drawing into; whoever still does so holds its lock."""
    with locked(path.with_name(path.name.removeprefix(".").rpartition(".")[0]), None) as held:
        if held:
            shutil.rmtree(path, ignore_errors=True)


def age(path: pathlib.Path) -> float:
    """Seconds since somebody wrote to a file; 0 where it is gone."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0
