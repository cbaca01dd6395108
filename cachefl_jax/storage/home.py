"""The user's own store, CACHEFL_HOME, which all runs share: where it lies, and one writer at a time for each entry.

Digests of files are remembered there, so that gigabytes are hashed once. A file whose size, time and inode are as
before has the digest that it had. One that changed within two seconds of being hashed is hashed again the next time, as
its time may not tell.
"""

import contextlib
import os
import pathlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator

from cachefl_jax.config.paths import expand
from cachefl_jax.errors import UsageError
from cachefl_jax.storage.files import json_if_whole, sync_folder, write_json
from cachefl_jax.storage.locks import give_back, take, wait_for

LOCK = ".lock"
# The stores, a folder each. An entry is a folder with a manifest in the first three, and a small file in the others.
FEATURES, SYNTHETIC, PROMPTS = "features", "synthetic", "prompts"
COMPILED, PLANS, CHECKED, DIGESTS = "compiled", "plans", "checked", "digests"
FOLDERS, FILES = (FEATURES, SYNTHETIC, PROMPTS), (COMPILED, PLANS, CHECKED, DIGESTS)
MANIFEST = "manifest.json"
PARTIAL = ".partial"  # ends the name of an entry's folder that is not whole yet
SETTLED = 2 * 10**9  # nanoseconds: coarser than any file system's clock in use


def home() -> pathlib.Path:
    """$CACHEFL_HOME or ~/.cache/cachefl_jax. Raises UsageError: no folder can have this name, or a file has it."""
    path = pathlib.Path(expand("CACHEFL_HOME", os.environ.get("CACHEFL_HOME") or "~/.cache/cachefl_jax"))
    if os.path.exists(path) and not os.path.isdir(path):  # unlike pathlib's, these raise nothing
        raise UsageError("CACHEFL_HOME", f"{path} (not a folder)", "a folder that can be written", "name another")
    return path


@contextlib.contextmanager
def writing(folder: pathlib.Path) -> Iterator[None]:
    """Turns a refusal of the file system into one line."""
    try:
        yield
    except OSError as error:
        wanted = "a folder that can be written, with room for what is kept there"
        mend = "make room, or set CACHEFL_HOME to such a folder; what is there already is kept"
        raise UsageError("CACHEFL_HOME", f"{folder} ({error.strerror or error})", wanted, mend) from error


@contextlib.contextmanager
def locked(folder: pathlib.Path, waiting: str | None) -> Iterator[bool]:
    """Holds the lock of an entry, a file beside its folder that belongs to this process until it ends.

    Args:
        waiting: said on stderr while another run has the lock; None does not wait.

    Yields:
        Whether the lock is held."""
    path = folder.with_name(f".{folder.name}{LOCK}")
    with writing(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = take(path)
        if lock is None and waiting is not None:
            print(waiting, file=sys.stderr, flush=True)
            lock = wait_for(path)
    if lock is None:
        yield False
        return
    try:
        yield True
    finally:
        give_back(lock)


@contextlib.contextmanager
def making(
    folder: pathlib.Path, waiting: str, begun: Callable[[pathlib.Path], object]
) -> Iterator[pathlib.Path | None]:
    """Gives a folder beside an entry's, to be filled, and then renames it to `folder`; one process at a time.

    Args:
        folder: the entry's. It appears by being renamed, so it is whole if it is there: None is given then.
        waiting: said on stderr while another run has the lock.
        begun: whether a later run can go on from what lies in the folder beside; if not, an error removes it."""
    if folder.is_dir():
        yield None
        return
    aside = folder.with_name(f".{folder.name}{PARTIAL}")
    with locked(folder, waiting):
        if folder.is_dir():  # another run made it while this one waited
            yield None
            return
        with writing(folder.parent):
            aside.mkdir(exist_ok=True)
        try:
            yield aside
        except BaseException:
            if not begun(aside):
                shutil.rmtree(aside, ignore_errors=True)
            raise
        with writing(folder.parent):
            os.replace(aside, folder)
            sync_folder(folder.parent)


def memory_of(name: str, root: pathlib.Path | None = None) -> pathlib.Path:
    """The file that remembers digests under a name; `root` is $CACHEFL_HOME or ~/.cache/cachefl_jax if not given."""
    return (root or home()) / DIGESTS / f"{name}.json"


def recall(memory: pathlib.Path) -> dict:
    """What was remembered; nothing where that is damaged."""
    remembered = json_if_whole(memory)
    return remembered if isinstance(remembered, dict) else {}


def remember(memory: pathlib.Path, value: dict) -> None:
    """Writes it down where that can be: nothing is lost but the time to hash again."""
    with contextlib.suppress(OSError):
        write_json(memory, value)


def is_settled(changed: int) -> bool:
    """Whether a file's time of change, in nanoseconds, is so long ago that a later change will show in it."""
    return changed < time.time_ns() - SETTLED
