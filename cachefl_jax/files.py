"""Files that appear whole or not at all, and archives that are read without ever unpickling."""

import contextlib
import json
import os
import pathlib
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO

import numpy as np
from safetensors.numpy import save

from cachefl_jax.errors import UsageError
from cachefl_jax.leftovers import at_work, temporary_name


def home() -> pathlib.Path:
    """The user's store of what runs share: $CACHEFL_HOME or ~/.cache/cachefl_jax."""
    return pathlib.Path(os.environ.get("CACHEFL_HOME") or "~/.cache/cachefl_jax").expanduser()


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

    What a kill leaves beside it is removed by `leftovers.remove_leftovers`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = temporary_name(path)
    at_work.add(aside.name)
    try:
        with naming(path), aside.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    finally:
        at_work.discard(aside.name)


def write_json(path: pathlib.Path, value: object) -> None:
    """Writes `value` as indented JSON."""
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    write_whole(path, lambda file: file.write(text.encode()))


def read_json(path: pathlib.Path) -> dict:
    """Reads a JSON file that this project wrote.

    Raises:
        UsageError: the file is missing or not JSON.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        reason = f"{path} ({type(error).__name__})"
        raise UsageError("file", reason, "a readable JSON file", "name another folder, or run again") from error


def write_arrays(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an .npz; the same arrays give the same bytes (NumPy's own carry the time of day)."""

    def write(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, array in arrays.items():
                with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)

    write_whole(path, write)


def read_arrays(field: str, path: pathlib.Path) -> dict[str, np.ndarray]:
    """Every array of an .npz.

    Args:
        field: the config field that named the file, for the message.
        path: the archive.

    Raises:
        UsageError: the file is missing, is cut short, is no .npz, or holds pickled objects.
    """
    if not path.is_file():
        raise UsageError(field, str(path), "an existing .npz file", "correct the path")
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("a single array")
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        pickled = "allow_pickle" in str(error) or "pickle" in str(error)
        reason = "holds pickled objects" if pickled else f"cannot be read as .npz: {error}"
        mend = "save plain arrays with numpy.savez" if pickled else "write or download it again"
        raise UsageError(field, f"{path} ({reason})", "an .npz of plain arrays", mend) from error


def write_tensors(path: pathlib.Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Writes safetensors; the same tensors and metadata give the same bytes.

    The library writes its metadata in an order that changes from process to process, so the header is sorted here.
    """
    data = save(dict(tensors), metadata=dict(metadata))
    (length,) = struct.unpack("<Q", data[:8])
    header = json.dumps(json.loads(data[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    write_whole(path, lambda file: file.write(struct.pack("<Q", len(header)) + header + data[8 + length :]))
