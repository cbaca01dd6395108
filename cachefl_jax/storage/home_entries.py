"""Everything that lies in CACHEFL_HOME, by kind: what each takes, and what may go of it.

Features and drawn sets are folders with a manifest. Compiled programs, plans, verdicts on images and digests of files
are small files: losing one costs the time to make it again.
"""

import contextlib
import json
import pathlib
import re
import shutil
import time
from collections.abc import Iterator

from cachefl_jax.errors import UsageError
from cachefl_jax.storage.entries import Entry, delete, entries, in_order, remove_locks
from cachefl_jax.storage.home import COMPILED, FILES, FOLDERS, PARTIAL, home, locked, writing
from cachefl_jax.storage.leftovers import UNTOUCHED, remove_leftovers

KINDS = (*FOLDERS, *FILES)
GOING = re.compile(r"\..+\.[0-9a-f]{32}")  # a folder that is being deleted, or that older versions drew into
HALF = re.compile(r"\..+\.[a-z0-9_]{8}")  # a file that older versions were writing


def all_entries(root: pathlib.Path | None = None) -> list[Entry]:
    """What lies in all stores, the last used first."""
    root = root or home()
    found = [entry for kind in FOLDERS for entry in entries(root, kind) if not GOING.fullmatch(entry.folder.name)]
    return in_order([*found, *(entry for kind in FILES for entry in file_entries(root, kind))])


def file_entries(root: pathlib.Path, kind: str) -> Iterator[Entry]:
    """The files of a store of small ones; a program counts as used when it was last read."""
    for path in (root / kind).rglob("*"):
        with contextlib.suppress(OSError):  # a run at work replaces its files
            stat = path.stat()
            if path.is_file() and not path.name.startswith("."):
                yield Entry(path, {}, stat.st_size, max(stat.st_mtime, stat.st_atime), True, kind)


def file_fault(entry: Entry) -> str:
    """What is wrong with a small file that ought to be JSON; empty if nothing is."""
    if entry.kind == COMPILED:  # JAX's own; one that it cannot read is compiled anew
        return ""
    try:
        json.loads(entry.folder.read_text())
    except (OSError, ValueError, RecursionError) as error:
        return f"cannot be read ({type(error).__name__})"
    return ""


def throw_away(entry: Entry) -> bool:
    """Removes an entry of any kind; False where a run is at work on it. Whoever has it open keeps what it has."""
    if entry.kind in FOLDERS:
        return delete(entry)
    if entry.kind == COMPILED:
        with writing(entry.folder.parent):
            entry.folder.unlink(missing_ok=True)
        return True
    with locked(entry.folder, None) as held:
        if held:
            with writing(entry.folder.parent):
                entry.folder.unlink(missing_ok=True)
    return held


def remove_remains(root: pathlib.Path | None = None) -> None:
    """Removes what killed processes left in every store: half-written files, folders that were going, and locks. What
    was computed or drawn in part stays, as a run goes on from there."""
    root = root or home()
    for kind in KINDS:
        folder = root / kind
        if not folder.is_dir():
            continue
        for place in (folder, *folder.glob(f".*{PARTIAL}")):
            remove_leftovers(place)
        for path in list(folder.iterdir()):
            if GOING.fullmatch(path.name):
                remove_going(path)
            elif HALF.fullmatch(path.name) and path.is_file() and age(path) > UNTOUCHED:
                path.unlink(missing_ok=True)
        remove_locks(root, kind)


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
