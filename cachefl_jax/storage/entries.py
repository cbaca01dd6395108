"""What the stores in the user's CACHEFL_HOME hold: listed, checked byte by byte, and thrown away on demand."""

import contextlib
import pathlib
import shutil
import time
import uuid
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from cachefl_jax.storage.files import file_digest, json_if_whole
from cachefl_jax.storage.home import FEATURES, LOCK, MANIFEST, PARTIAL, home, locked, writing

DAY, GIB = 24 * 3600, 2**30


class Entry(NamedTuple):
    """What can be thrown away by itself: a folder of the store, or in stores of small files one of these."""

    folder: pathlib.Path  # or the file
    manifest: dict  # empty where it cannot be read
    byte_count: int
    used: float  # seconds since 1970
    whole: bool  # otherwise what a run left that was stopped, or is at work on
    kind: str = FEATURES  # the store's name


def entries(root: pathlib.Path | None = None, kind: str = FEATURES) -> list[Entry]:
    """All entries and leftovers of a store whose entries are folders, the last used first."""
    folder = (root or home()) / kind
    found = [read_entry(path) for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    return in_order(entry._replace(kind=kind) for entry in found)


def in_order(found: Iterable[Entry]) -> list[Entry]:
    """The last used first."""
    return sorted(found, key=lambda entry: (-entry.used, entry.folder.name))


def read_entry(folder: pathlib.Path) -> Entry:
    stats = []
    for path in folder.iterdir():
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
    """What is wrong with a whole entry, every byte read; nothing if it is as it was written."""
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
    """Removes an entry or leftover with its lock; False where a run is at work on it.

    A run that has it open keeps what it mapped.
    """
    name = entry.folder.name.removeprefix(".").removesuffix(PARTIAL)
    with locked(entry.folder.with_name(name), None) as held:
        if not held:
            return False
        with writing(entry.folder.parent):
            gone = entry.folder.with_name(f".{name}.{uuid.uuid4().hex}")
            entry.folder.rename(gone)  # at once: no reader sees half of it
            shutil.rmtree(gone)
    return True


def remove_locks(root: pathlib.Path | None = None, kind: str = FEATURES) -> None:
    """Removes locks of runs that were killed and left nothing else."""
    for path in ((root or home()) / kind).glob(f".*{LOCK}"):
        with locked(path.with_name(path.name.removeprefix(".").removesuffix(LOCK)), None):
            pass
