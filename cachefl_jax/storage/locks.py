"""Locks between processes, held until their process ends, however it ends. A lock file names who holds it."""

import contextlib
import datetime
import os
import pathlib
import time
from collections.abc import Iterator

from filelock import FileLock, SoftFileLock, Timeout

from cachefl_jax.errors import UsageError
from cachefl_jax.storage.leftovers import HOST, alive

FOLDER_LOCK = ".lock"
PATIENCE = 0.5  # seconds that a new holder may take to write its name
TRIES = 5  # at a folder that another process removes while this one enters it


def take(path: pathlib.Path) -> FileLock | None:
    """Takes the lock at `path`, or gives None where another process (or this one) holds it.

    Raises OSError: there can be no file at `path`."""
    lock = FileLock(path, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        return None
    sign(path, lock)
    return lock


def wait_for(path: pathlib.Path) -> FileLock:
    """Takes the lock at `path` as soon as it is free."""
    lock = FileLock(path)
    lock.acquire()
    sign(path, lock)
    return lock


def sign(path: pathlib.Path, lock: FileLock) -> None:
    """Writes into the lock's file who holds it: process, machine. Where a file system knows no locks, the library
    falls back on a file that holds exactly this already."""
    if not isinstance(lock, SoftFileLock):
        with contextlib.suppress(OSError):  # on a full disk the lock holds all the same
            path.write_text(f"{os.getpid()}\n{HOST}\n")


def give_back(lock: FileLock) -> None:
    """Ends a lock and removes its file, while it is still held: whoever waits finds another file, or none, and begins
    anew."""
    if not isinstance(lock, SoftFileLock):
        with contextlib.suppress(OSError):
            os.unlink(lock.lock_file)
    lock.release()


def holder(path: pathlib.Path) -> str:
    """Who holds the lock at `path`, in words."""
    deadline = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(OSError, ValueError, IndexError):
            pid, host, *_ = path.read_text().split("\n")
            if host != HOST or alive(int(pid)):
                since = datetime.datetime.fromtimestamp(path.stat().st_mtime).strftime("%Y-%m-%d %H:%M:%S")
                return f"process {int(pid)} on {host} since {since}"
        if time.monotonic() > deadline:
            return "another process"
        time.sleep(0.02)


@contextlib.contextmanager
def folder_lock(folder: pathlib.Path, field: str = "--workdir") -> Iterator[None]:
    """Lets one command at a time work in a folder, which is made if there is none.

    In the end the lock's file is gone, and so are folders that were made for it and stayed empty.

    Raises UsageError: another process is at work there (it is named), or the folder cannot be written."""
    made: list[pathlib.Path] = []
    lock = None
    try:
        lock = enter(folder, made)
        if lock is None:
            found = f"{folder} (in use by {holder(folder / FOLDER_LOCK)})"
            allowed = "a folder in which no other command is at work"
            raise UsageError(field, found, allowed, "wait until that one has ended, or name another folder")
        yield
    except OSError as error:
        if lock is not None:  # it is not the lock's
            raise
        found = f"{folder} ({error.strerror or error})"
        raise UsageError(field, found, "a folder that can be written", "name another folder") from error
    finally:
        if lock is not None:
            give_back(lock)
        for each in reversed(made):
            with contextlib.suppress(OSError):  # something lies in it
                each.rmdir()


def enter(folder: pathlib.Path, made: list[pathlib.Path]) -> FileLock | None:
    """The folder's lock, or None where it is held. Folders that are missing are made and added to `made`."""
    for left in reversed(range(TRIES)):
        missing = [each for each in (folder, *folder.absolute().parents) if not each.exists()]
        try:
            for each in reversed(missing):
                with contextlib.suppress(FileExistsError):
                    each.mkdir()
                    made.append(each)
            return take(folder / FOLDER_LOCK)
        except FileNotFoundError:  # another command has just left, and removed the folder that it had made
            if not left:
                raise
    return None
