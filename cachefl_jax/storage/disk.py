"""Writing into the user's store: refusals in one line, one writer at a time, and what is written stays written."""

import contextlib
import hashlib
import io
import os
import pathlib
import sys
from collections.abc import Iterator
from typing import BinaryIO

from cachefl_jax.errors import UsageError
from cachefl_jax.storage.locks import give_back, take, wait_for

LOCK = ".lock"


@contextlib.contextmanager
def writing(folder: pathlib.Path) -> Iterator[None]:
    """Turns a refusal of the file system into one line."""
    try:
        yield
    except OSError as error:
        wanted = "a folder that can be written, with room for the features"
        mend = "make room, or set CACHEFL_HOME to such a folder; what is there already is kept"
        raise UsageError("CACHEFL_HOME", f"{folder} ({error.strerror or error})", wanted, mend) from error


def sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: pathlib.Path) -> None:
    """Makes a renaming last."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def file_digest(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_all(file: io.FileIO, data: bytes | memoryview) -> None:
    """Hands every byte to the system, which keeps it even if this process is killed; `file` is without a buffer."""
    left = memoryview(data).cast("B")
    while left:
        left = left[file.write(left) :]


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
