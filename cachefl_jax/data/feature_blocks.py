"""One array of features, written block by block, so that a run which was killed goes on where it stopped.

Every block leaves a line in ``progress.jsonl``: the rows so far, and the length and the sha256 of the file so far. What
the file holds beyond the last line that its bytes agree with, such as half a block, is written anew.

Axis letters: V views, D features.
"""

import contextlib
import hashlib
import io
import json
import math
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from cachefl_jax.interrupts import finishing, leave_if_asked
from cachefl_jax.storage.files import opened, sync, write_all
from cachefl_jax.storage.home import writing

ARRAY, PROGRESS = "features.npy", "progress.jsonl"


class Progress(NamedTuple):
    """How far an array is."""

    rows: int
    width: int  # D; 0 before the first block
    end: int  # bytes
    digest: Any  # hashlib's sha256 of those bytes, which goes on
    noted: int = 0  # bytes of progress.jsonl that tell of it


def write_blocks(
    folder: pathlib.Path, leading: tuple[int, ...], blocks: Callable[[int], Iterator[np.ndarray]], what: str
) -> tuple[int, str]:
    """Completes the folder's array of shape [*leading, D] float32; `blocks` as of `feature_store.obtain`.

    Returns:
        D and the file's sha256.

    Raises UsageError: the folder cannot be written. What whoever gives the blocks raises is raised as it is."""
    rows, state = math.prod(leading), read_progress(folder, leading)
    if state.rows:
        print(f"{what}: going on at row {state.rows} of {rows}", file=sys.stderr, flush=True)
    with contextlib.ExitStack() as files:
        with writing(folder):
            file = files.enter_context(opened(folder / ARRAY, state.end))
            progress = files.enter_context(opened(folder / PROGRESS, state.noted))
        if state.rows < rows:
            with finishing(), contextlib.closing(blocks(state.rows)) as coming:
                for block in coming:
                    state = add(file, np.ascontiguousarray(block, "<f4"), state, leading, what)
                    note(progress, state)
                    leave_if_asked()
        if state.rows != rows:
            raise ValueError(f"{what}: the blocks ended at row {state.rows} of {rows}")
        with writing(folder):
            sync(file)
    return state.width, state.digest.hexdigest()


def add(file: io.FileIO, block: np.ndarray, state: Progress, leading: tuple[int, ...], what: str) -> Progress:
    """Appends a block [b, D], behind the header if it is the first."""
    width = state.width or block.shape[-1]
    if block.shape[1:] != (width,) or state.rows + len(block) > math.prod(leading):
        raise ValueError(f"{what}: a block {block.shape} at row {state.rows} of {leading}, {width} wide")
    data = b"" if state.rows else header((*leading, width))
    for part in (data, block.data):
        with writing(pathlib.Path(file.name).parent):
            write_all(file, part)
        state.digest.update(part)
    return state._replace(rows=state.rows + len(block), width=width, end=file.tell())


def note(progress: io.FileIO, state: Progress) -> None:
    line = {"rows": state.rows, "width": state.width, "end": state.end, "sha256": state.digest.hexdigest()}
    with writing(pathlib.Path(progress.name).parent):
        write_all(progress, json.dumps(line).encode() + b"\n")


def read_progress(folder: pathlib.Path, leading: tuple[int, ...]) -> Progress:
    """What an earlier run left, as far as the bytes are those that it wrote."""
    state = Progress(0, 0, 0, hashlib.sha256())
    try:
        lines = (folder / PROGRESS).read_bytes().splitlines(keepends=True)
        file = (folder / ARRAY).open("rb")
    except OSError:
        return state
    digest = hashlib.sha256()
    with file:
        for text in lines:
            try:
                line = json.loads(text)
                rows, width, end, checksum = (line[name] for name in ("rows", "width", "end", "sha256"))
            except (ValueError, KeyError, TypeError, RecursionError):  # cut off, or damaged
                break
            if not text.endswith(b"\n") or end != len(header((*leading, width))) + 4 * rows * width:
                break
            digest.update(file.read(end - state.end))
            if digest.hexdigest() != checksum:
                break
            state = Progress(rows, width, end, digest.copy(), state.noted + len(text))
    return state


def header(shape: tuple[int, ...]) -> bytes:
    """The beginning of an ``.npy`` file of float32 of this shape."""
    text = io.BytesIO()
    np.lib.format.write_array_header_1_0(text, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return text.getvalue()
