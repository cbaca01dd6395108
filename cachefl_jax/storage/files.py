"""Files that appear whole or not at all, and whether there is room for what they hold."""

import contextlib
import hashlib
import io
import json
import os
import pathlib
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np
from safetensors.numpy import save

from cachefl_jax import machine
from cachefl_jax.errors import UsageError
from cachefl_jax.storage.leftovers import at_work, temporary_name

LARGEST_RATIO = 1032  # bytes that one of deflate (zip, gzip) can unpack to: a match of 258 in two bits


@contextlib.contextmanager
def naming(path: pathlib.Path) -> Iterator[None]:
    """An `OSError` from inside names the file: one that comes of a full disk does not by itself."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_whole(path: pathlib.Path, write: Callable[[BinaryIO], object]) -> None:
    """Calls `write` on a file beside `path` and renames it into place: readers see the old file or the new one.

    What a kill leaves beside it is removed by `leftovers.remove_leftovers`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = temporary_name(path)
    at_work.add(aside.name)
    try:
        with naming(path), aside.open("xb") as file:
            write(file)
            sync(file)
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    finally:
        at_work.discard(aside.name)


def opened(path: pathlib.Path, end: int) -> io.FileIO:
    """The file, cut off at `end`, where writing goes on; without a buffer, which would meet a full disk once more."""
    file = path.open("r+b" if end else "wb", buffering=0)
    file.truncate(end)
    file.seek(end)
    return file


def write_all(file: io.FileIO, data: bytes | memoryview) -> None:
    """Hands every byte to the system, which keeps it even if this process is killed; `file` is without a buffer."""
    left = memoryview(data).cast("B")
    while left:
        left = left[file.write(left) :]


def sync(file: BinaryIO) -> None:
    """Makes what was written last, even if the machine stops."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: pathlib.Path) -> None:
    """Makes a renaming last."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def file_digest(path: pathlib.Path | str) -> str:
    """The sha256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: pathlib.Path, value: object) -> None:
    """Writes `value` as indented JSON."""
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    write_whole(path, lambda file: file.write(text.encode()))


def read_json(path: pathlib.Path) -> dict:
    """Reads a JSON file that this project wrote. Raises UsageError: the file is missing or not JSON."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:  # the last: brackets without end
        reason = f"{path} ({type(error).__name__})"
        raise UsageError("file", reason, "a readable JSON file", "name another folder, or run again") from error


def json_if_whole(path: pathlib.Path) -> Any:
    """What a JSON file holds, for what can be made again; None where the file is missing or damaged."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None


def write_arrays(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a compressed .npz; the same arrays give the same bytes (NumPy's own carry the time of day)."""

    def write(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w") as archive:
            for name, array in arrays.items():
                entry = zipfile.ZipInfo(f"{name}.npy")
                entry.compress_type = zipfile.ZIP_DEFLATED  # the archive's own does not hold for an entry with a date
                with archive.open(entry, "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)

    write_whole(path, write)


def check_room(field: str, what: str | pathlib.Path, size: int, mend: str = "free memory, or bring fewer rows") -> None:
    """Refuses what takes `size` bytes of memory where fewer are free, before any of them is taken.

    Args:
        what: a file that is to be read, or arrays that are to be made.
        size: bytes, unpacked.

    Raises UsageError: less memory is free."""
    free = machine.free_memory()
    if free is not None and size > free:
        allowed = f"what fits into the {free:,} bytes of memory that are free"
        raise UsageError(field, f"{what} (takes {size:,} bytes)", allowed, mend)


def write_tensors(path: pathlib.Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Writes safetensors; the same tensors and metadata give the same bytes.

    The library writes its metadata in an order that changes from process to process, so the header is sorted here."""
    data = save(dict(tensors), metadata=dict(metadata))
    (length,) = struct.unpack("<Q", data[:8])
    header = json.dumps(json.loads(data[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    write_whole(path, lambda file: file.write(struct.pack("<Q", len(header)) + header + data[8 + length :]))
