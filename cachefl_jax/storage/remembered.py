"""Digests of files, remembered in CACHEFL_HOME, so that gigabytes are hashed once.

A file whose size, time and inode are as before has the digest that it had. One that changed within two seconds of being
hashed is hashed again the next time, as its time may not tell.
"""

import contextlib
import pathlib
import time

from cachefl_jax.storage.files import json_if_whole, write_json
from cachefl_jax.storage.home import DIGESTS, home

SETTLED = 2 * 10**9  # nanoseconds: coarser than any file system's clock in use


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
