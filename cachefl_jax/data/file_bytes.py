"""What heeds every byte of images: fingerprints of files, since other images may have the same names, sizes and times,
where a packer or a copy set these; and which images are in two splits, under whatever name.

To fingerprint files they are read once: as long as none of them has another size, inode or time of change, which nobody
can set back, their digest is remembered.

Axis letter: n rows.
"""

import concurrent.futures
import contextlib
import hashlib
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from tqdm import tqdm

from cachefl_jax.data.images import LabelledImages, fingerprint_of
from cachefl_jax.machine import cores
from cachefl_jax.storage.files import file_digest
from cachefl_jax.storage.home import is_settled, memory_of, recall, remember

COPIES = "{} images are training images too"  # how notes tell of images that are in two splits; {}: a split's name
READ: dict[str, str] = {}  # digests of files that this process read last, by their paths
UNREADABLE = "unreadable"  # instead of a file's digest: whoever decodes it says why


def heed_bytes(split: LabelledImages, what: str) -> LabelledImages:
    """The split, whose fingerprint tells the bytes of its files, too; one that is no files' as it is.

    `split`: n images, chosen already: every file of it is read."""
    images = split.images
    place_of = images.name if getattr(images, "files", False) else getattr(images, "file", None)
    if place_of is None:
        return split
    found = (place_of(row) for row in range(len(split.labels)))
    paths = [os.path.abspath(path) for path in found if path]
    place = fingerprint_of("\0".join(paths))[:16]
    return split._replace(fingerprint=fingerprint_of(split.fingerprint, bytes_digest(paths, place, what)))


def bytes_digest(paths: list[str], place: str, what: str, root: pathlib.Path | None = None) -> str:
    """The sha256, in hex, of the files' bytes; `place` names what is remembered of them, in the store under `root`."""
    memory = memory_of(place, root)
    facts, newest = file_facts(paths)
    before = recall(memory)
    if before.get("facts") == facts and isinstance(before.get("sha256"), str):
        return before["sha256"]
    bar = tqdm(total=len(paths), desc=f"hashing {what}", unit="image", leave=False, disable=None, delay=2)
    with bar, concurrent.futures.ThreadPoolExecutor(cores()) as pool:
        found = [bar.update() or digest for digest in pool.map(digest_or_not, paths)]
    READ.update(zip(paths, found, strict=True))
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


def shared_count(split: LabelledImages, others: LabelledImages) -> int:
    """How many of `shared_rows` there are, of splits that went through `heed_bytes`; remembered by their fingerprints.

    Raises UsageError: as `shared_rows`."""
    memory = memory_of(fingerprint_of("shared", split.fingerprint, others.fingerprint)[:16])
    before = recall(memory)
    key = [split.fingerprint, others.fingerprint]
    if before.get("of") == key and isinstance(before.get("shared"), int):
        return before["shared"]
    shared = len(shared_rows(split, others, READ))
    remember(memory, {"of": key, "shared": shared})
    return shared


def shared_rows(split: LabelledImages, others: LabelledImages, read: Mapping[str, str] | None = None) -> np.ndarray:
    """The rows, in ascending order, of the images of `split` that are among `others`.

    Encoded images, such as files, are the same if their bytes are; only those of equal sizes are read. Where one of the
    two is arrays, decoded pixels are compared. `read` has the digests of files that were just read.

    Raises UsageError: an image cannot be decoded."""
    rows, among = np.arange(len(split.labels)), np.arange(len(others.labels))
    if not (is_encoded(split) and is_encoded(others)):
        return rows[np.isin(pixel_digests(split, rows), pixel_digests(others, among))]
    sizes, found = sizes_of(split), sizes_of(others)
    rows, among = rows[np.isin(sizes, found)], among[np.isin(found, sizes)]
    return rows[np.isin(byte_digests(split, rows, read or {}), byte_digests(others, among, read or {}))]


def is_encoded(split: LabelledImages) -> bool:
    images = split.images
    return bool(getattr(images, "files", False) or getattr(images, "encoded", None))


def sizes_of(split: LabelledImages) -> np.ndarray:
    """The bytes [n] of every encoded image."""
    images, rows = split.images, range(len(split.labels))
    sizes = (os.stat(images.name(row)).st_size if images.files else len(images.encoded(row)) for row in rows)
    return np.fromiter(sizes, np.int64, len(rows))


def byte_digests(split: LabelledImages, rows: Sequence[int], read: Mapping[str, str]) -> np.ndarray:
    """The sha256, in hex, of these rows' bytes."""
    return np.array([digest_of(split.images, row, read) for row in rows], "U64")


def digest_of(images, row: int, read: Mapping[str, str]) -> str:
    if not images.files:
        return hashlib.sha256(images.encoded(row)).hexdigest()
    path = os.path.abspath(images.name(row))
    return read.get(path) or file_digest(path)


def pixel_digests(split: LabelledImages, rows: Sequence[int]) -> np.ndarray:
    """The sha256, in hex, of these rows' pixels in colour, whatever form they come in.

    Raises UsageError: an image cannot be decoded."""
    bar = tqdm(total=len(rows), desc="hashing pixels", unit="image", leave=False, disable=None, delay=2)
    with bar, concurrent.futures.ThreadPoolExecutor(cores()) as pool:
        found = pool.map(lambda row: fingerprint_of(in_colour(split.images[row])), rows)
        return np.array([bar.update() or digest for digest in found], "U64")


def in_colour(image) -> np.ndarray:
    """An image as uint8 [H, W, 3]."""
    if isinstance(image, np.ndarray):
        return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=-1)
    return np.asarray(image.convert("RGB"))
