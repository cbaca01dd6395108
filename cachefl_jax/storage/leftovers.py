"""What a killed process leaves behind: half-written files, told from those that a living process writes now."""

import contextlib
import os
import pathlib
import platform
import re
import secrets
import time
from collections.abc import Iterable

UNTOUCHED = 3600.0  # seconds after which a half-written file is nobody's, whoever began it
HOST = re.sub(r"[^A-Za-z0-9-]", "-", platform.node()) or "host"
NAME = re.compile(r"\..+\.(?P<host>[A-Za-z0-9-]+)\.(?P<pid>\d+)\.[0-9a-f]{8}\.tmp")
at_work: set[str] = set()  # the temporary files that this very process is writing


def temporary_name(path: pathlib.Path) -> pathlib.Path:
    """A new hidden name beside `path` that tells which process of which machine writes there."""
    return path.with_name(f".{path.name}.{HOST}.{os.getpid()}.{secrets.token_hex(4)}.tmp")


def alive(pid: int) -> bool:
    """Whether a process of this machine has that number."""
    try:
        os.kill(pid, 0)
    except PermissionError:  # it is another user's
        return True
    except (OSError, OverflowError):
        return False
    return True


def remove_leftovers(folder: pathlib.Path, names: Iterable[str] = ()) -> None:
    """Removes temporary files of processes that are no more; those of living processes stay.

    A file is dead if its process is, or, where that cannot be known (another machine, or a number that another process
    has by now), if nobody has written to it for `UNTOUCHED` seconds.

    Args:
        folder: where to search; not below it. It need not exist.
        names: files that the caller alone may write, under a lock: for these the temporary names of older versions
            (".NAME." and eight characters) go as well."""
    old = re.compile(rf"\.({'|'.join(map(re.escape, names))})\.[a-z0-9_]{{8}}")
    with contextlib.suppress(OSError):  # a folder that is missing or not to be written holds nothing to remove
        for entry in list(os.scandir(folder)):
            found = NAME.fullmatch(entry.name)
            if (found and dead(entry, found["host"], int(found["pid"]))) or (names and old.fullmatch(entry.name)):
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)


def dead(entry: os.DirEntry, host: str, pid: int) -> bool:
    """Whether nobody writes to this temporary file any more."""
    if host == HOST and pid == os.getpid():
        return entry.name not in at_work
    if host == HOST and not alive(pid):
        return True
    try:
        return time.time() - entry.stat(follow_symlinks=False).st_mtime > UNTOUCHED
    except OSError:
        return False
