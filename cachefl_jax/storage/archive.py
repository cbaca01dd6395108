"""NumPy archives (.npz) from anywhere: read array by array, never unpickled, and never believed.

A header of a few bytes may claim an array of any size, and a few MB may unpack to GB. So only arrays that are asked
for are read, and what one claims is held against the bytes of its member, these against the bytes in the file, and all
against the free memory, before anything is allocated.
"""

import io
import math
import pathlib
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple

import numpy as np

from cachefl_jax.errors import UsageError, listing
from cachefl_jax.storage.files import LARGEST_RATIO, check_room

SUFFIX = ".npy"
LARGEST_HEADER = 10_000  # bytes, NumPy's own limit: longer ones may take the parser down
HEADERS = {1: (2, np.lib.format.read_array_header_1_0), 2: (4, np.lib.format.read_array_header_2_0)}
BLOCK_BYTES = 2**22  # of rows that are read at once
# What NumPy, zipfile and Python's parser, which reads headers, raise at broken or encrypted files.
FAULTS = (
    OSError, ValueError, EOFError, LookupError, TypeError, ArithmeticError, RuntimeError, SyntaxError, MemoryError,
    tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


class Header(NamedTuple):
    """What an array claims to be."""

    shape: tuple[int, ...]
    fortran: bool  # its values lie column by column
    dtype: np.dtype

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


class Archive:
    """An open .npz; a context that closes it.

    Args:
        field: the config field that named the file, for messages.
        mend: what to do about a file that is missing or damaged.

    Raises UsageError: the file is missing or is no .npz."""

    def __init__(self, field: str, path: pathlib.Path, mend: str = ""):
        self.field, self.path, self.mend = field, path, mend
        if not path.is_file():
            raise UsageError(field, str(path), "an existing .npz file", mend or "correct the path")
        with self.faults():
            self.bytes = path.stat().st_size
            with path.open("rb") as file:
                if file.read(6) == np.lib.format.MAGIC_PREFIX:
                    raise ValueError("a single array")
            self.file = zipfile.ZipFile(path)
            self.names = tuple(name.removesuffix(SUFFIX) for name in self.file.namelist() if name.endswith(SUFFIX))

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *_) -> None:
        self.file.close()

    def need(self, name: str) -> None:
        """Refuses a file without the array. Raises UsageError: names the arrays that it has."""
        if name not in self.names:
            allowed = f"an array of that name (the file has {listing(sorted(self.names), 12) or 'nothing'})"
            mend = "add it with numpy.savez"
            raise UsageError(f"{self.field}: {self.path}: {name}", "no such array", allowed, mend)

    def header(self, name: str) -> Header:
        """What the array is, by its header, once that is found to agree with the file.

        Raises UsageError: it does not, is none, or tells of pickled objects."""
        with self.faults(name), self.opened(name) as (_, header):
            return header

    def read(self, name: str) -> np.ndarray:
        """The whole array. Raises UsageError: as `header`; or its values are damaged or cut short."""
        with self.faults(name), self.opened(name) as (stream, header):
            values = read_values(stream, header.dtype, math.prod(header.shape))
            return values.reshape(header.shape[::-1]).T if header.fortran else values.reshape(header.shape)

    def rows(self, name: str) -> Iterator[np.ndarray]:
        """The matrix [n, D] in successive blocks of rows [b, D], of some MB each. Raises UsageError: as `read`."""
        with self.faults(name), self.opened(name) as (_, header):
            rows, width = header.shape
        count = max(BLOCK_BYTES // max(width * header.dtype.itemsize, 1), 1)
        if header.fortran:
            whole = self.read(name)
            yield from (whole[start : start + count] for start in range(0, rows, count))
            return
        with self.opened(name) as (stream, _):
            for start in range(0, rows, count):
                these = min(count, rows - start)
                with self.faults(name):
                    block = read_values(stream, header.dtype, these * width).reshape(these, width)
                yield block

    @contextmanager
    def opened(self, name: str) -> Iterator[tuple[BinaryIO, Header]]:
        """The member of an array, at its first value, and its header."""
        member = self.file.getinfo(name + SUFFIX)
        check_member(member, self.bytes)
        with self.file.open(member) as stream:
            header = read_header(stream)
            if header.dtype.hasobject:
                mend = f"save {name} as an array of numbers or of str, such as numpy.array({name}, dtype=str)"
                found = f"{self.path} ({name} holds pickled objects)"
                raise UsageError(self.field, found, "an .npz of plain arrays", self.mend or mend)
            held = member.file_size - stream.tell()
            if header.size != held or not header.dtype.itemsize:
                claim = f"{header.shape} of {header.dtype}, {header.size:,} bytes"
                raise ValueError(f"a claim to be {claim}, where there are {held:,}")
            yield stream, header

    @contextmanager
    def faults(self, name: str = "") -> Iterator[None]:
        """Tells any fault of the file in one line."""
        try:
            yield
        except UsageError:
            raise
        except FAULTS as error:
            told = str(error) or type(error).__name__
            reason = f"{name}: {told}"[:200] if name else told
            found = f"{self.path} (cannot be read as .npz: {reason})"
            mend = self.mend or "write or download it again"
            raise UsageError(self.field, found, "an .npz of plain arrays", mend) from error


def check_member(member: zipfile.ZipInfo, size: int) -> None:
    """Refuses a member that unpacks to more than its bytes in a file of `size` can hold."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"compression of type {member.compress_type}")
    ratio = LARGEST_RATIO if member.compress_type == zipfile.ZIP_DEFLATED else 1
    packed = min(member.compress_size, size)
    if member.file_size > packed * ratio:
        raise ValueError(f"{packed:,} bytes that cannot unpack to {member.file_size:,}")


def read_header(stream: BinaryIO) -> Header:
    """The header at the beginning of a member; no more of it is read than may be parsed."""
    major, _ = np.lib.format.read_magic(stream)
    if major not in HEADERS:
        raise ValueError(f"a header of version {major}")
    width, read = HEADERS[major]
    field = stream.read(width)
    length = int.from_bytes(field, "little")
    if length > LARGEST_HEADER:
        raise ValueError(f"a header of {length:,} bytes")
    text = io.BytesIO(field + stream.read(length))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the way the header is written
        header = Header(*read(text, max_header_size=LARGEST_HEADER))
    if min(header.shape, default=0) < 0:
        raise ValueError(f"a shape of {header.shape}")
    return header


def read_values(stream: BinaryIO, dtype: np.dtype, count: int) -> np.ndarray:
    """The next `count` values, [count]."""
    values = np.empty(count, dtype)
    if values.nbytes:
        memory, done = memoryview(values.view(np.uint8)), 0
        while done < len(memory):
            got = stream.readinto(memory[done : done + BLOCK_BYTES])
            if not got:
                raise EOFError("cut short")
            done += got
    return values


def read_arrays(field: str, path: pathlib.Path, names: Collection[str], mend: str = "") -> dict[str, np.ndarray]:
    """Those of the arrays `names` that an .npz has. Others are not read, whatever they are.

    Args:
        field: the config field that named the file, for the message.
        mend: as for an `Archive`.

    Raises UsageError: the file is missing, is damaged, is no .npz, holds pickled objects for one of the arrays, or
    unpacks to more than there is memory."""
    with Archive(field, path, mend) as archive:
        there = [name for name in names if name in archive.names]
        check_room(field, path, sum(archive.header(name).size for name in there))
        return {name: archive.read(name) for name in there}
