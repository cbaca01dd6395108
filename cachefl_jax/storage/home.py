"""The user's own store, CACHEFL_HOME, which all runs share: where it lies, and one writer at a time for each entry."""

import contextlib
import os
import pathlib
import sys
from collections.abc import Iterator

from cachefl_jax.config.paths import expand
from cachefl_jax.errors import UsageError
from cachefl_jax.storage.locks import give_back, take, wait_for

LOCK = ".lock"
# The stores, a folder each. An entry is a folder with a manifest in the first two, and a small file in the others.
FEATURES, SYNTHETIC = "features", "synthetic"
COMPILED, PLANS, CHECKED, DIGESTS = "compiled", "plans", "checked", "digests"
FOLDERS, FILES = (FEATURES, SYNTHETIC), (COMPILED, PLANS, CHECKED, DIGESTS)
MANIFEST = "manifest.json"
PARTIAL = ".partial"  # ends the name of an entry's folder that is not whole yet


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
        folder: the entry's.
        waiting: said on stderr while another run has the lock; None does not wait.

    Yields:
        Whether the lock is held.
    """
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
