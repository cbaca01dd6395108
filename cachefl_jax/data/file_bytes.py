"""Fingerprints of image files that heed every byte: other images may have the same names, sizes and times, where a
packer or a copy set these.

The files are read once: as long as none of them has another size, inode or time of change, which nobody can set back,
their digest is remembered.

Axis letter: n rows.
"""

import concurrent.futures
import contextlib
import hashlib
import os

import numpy as np
from tqdm import tqdm

from cachefl_jax.data.images import LabelledImages, fingerprint_of
from cachefl_jax.machine import cores
from cachefl_jax.storage.files import file_digest
from cachefl_jax.storage.remembered import is_settled, memory_of, recall, remember

UNREADABLE = "unreadable"  # instead of a file's digest: whoever decodes it says why


def heed_bytes(split: LabelledImages, what: str) -> LabelledImages:
    """The split, whose fingerprint tells the bytes of its files, too; one that is no files' as it is.

    Args:
        split: n images, chosen already: every file of it is read.
        what: its name on the progress bar.
    """
    images = split.images
    place_of = images.name if getattr(images, "files", False) else getattr(images, "file", None)
    if place_of is None:
        return split
    found = (place_of(row) for row in range(len(split.labels)))
    paths = [os.path.abspath(path) for path in found if path]
    place = fingerprint_of("\0".join(paths))[:16]
    return split._replace(fingerprint=fingerprint_of(split.fingerprint, bytes_digest(paths, place, what)))


def bytes_digest(paths: list[str], place: str, what: str) -> str:
    """The sha256, in hex, of the files' bytes; `place` names what is remembered of them."""
    memory = memory_of(place)
    facts, newest = file_facts(paths)
    before = recall(memory)
    if before.get("facts") == facts and isinstance(before.get("sha256"), str):
        return before["sha256"]
    bar = tqdm(total=len(paths), desc=f"hashing {what}", unit="image", leave=False, disable=None, delay=2)
    with bar, concurrent.futures.ThreadPoolExecutor(cores()) as pool:
        found = [bar.update() or digest for digest in pool.map(digest_or_not, paths)]
    digest = fingerprint_of(*found)
    if UNREADABLE not in found and is_settled(newest) and file_facts(paths)[0] == facts:
        remember(memory, {"facts": facts, "sha256": digest})
    return digest


def digest_or_not(path: str) -> str:
    try:
        return file_digest(path)
    except OSError:
        return UNREADABLE


def file_facts(paths: list[str]) -> tuple[str, int]:
    """(the sha256, in hex, of what the file system says of every file, the latest time of change in nanoseconds)."""
    facts = np.zeros((len(paths), 3), np.int64)
    for row, path in enumerate(paths):
        with contextlib.suppress(OSError):
            stat = os.stat(path)
            facts[row] = stat.st_size, stat.st_ino % 2**63, max(stat.st_mtime_ns, stat.st_ctime_ns)
    return hashlib.sha256(facts.tobytes()).hexdigest(), int(facts[:, 2].max(initial=0))
