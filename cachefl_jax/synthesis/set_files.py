"""The files of a drawn set: an image each, and ``files.jsonl``, a line an image, written as soon as its file is there.

A drawing that was killed goes on behind the last line whose file has the bytes that the line tells.

Axis letters: n images, B batch, H W image.
"""

import concurrent.futures
import hashlib
import io
import json
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from cachefl_jax.data.file_bytes import digest_or_not
from cachefl_jax.data.images import fingerprint_of
from cachefl_jax.machine import cores
from cachefl_jax.storage.files import write_all, write_whole
from cachefl_jax.synthesis.picture_files import encode_picture
from cachefl_jax.synthesis.request import Request

LINES, IMAGES = "files.jsonl", "images"


class Line(NamedTuple):
    """What ``files.jsonl`` tells of one image."""

    name: str  # of its file, from the set's folder on
    sha256: str  # of the file
    pixels_sha256: str
    seed: int  # that it was drawn from in the end
    prompt: str


def file_names(request: Request) -> list[str]:
    """The names of n images' files: images/CLASS/ROW, both numbers from 0."""
    suffix = request.how.file_format
    return [f"{IMAGES}/{label:04d}/{row:06d}.{suffix}" for row, label in enumerate(request.labels.tolist())]


def write_picture(folder: pathlib.Path, name: str, pixels: np.ndarray, facts: dict[str, Any]) -> Line:
    """Writes one image [H, W, 3] uint8, whole or not at all. Raises OSError: the file system refuses."""
    data = encode_picture(pixels, facts, name.rpartition(".")[2])
    write_whole(folder / name, lambda file: file.write(data))
    return Line(name, hashlib.sha256(data).hexdigest(), fingerprint_of(pixels), facts["seed"], facts["prompt"])


def add_line(lines: io.FileIO, line: Line) -> None:
    """Appends what is told of an image whose file is there."""
    write_all(lines, as_text(line))


def as_text(line: Line) -> bytes:
    return json.dumps(line._asdict()).encode() + b"\n"


def read_lines(folder: pathlib.Path, names: Sequence[str]) -> list[Line]:
    """The lines of these files, up to the first that is missing, damaged or another's."""
    found = []
    try:
        file = (folder / LINES).open("rb")
    except OSError:
        return found
    with file:
        for name, text in zip(names, file, strict=False):
            try:
                line = Line(**json.loads(text))
            except (ValueError, TypeError, RecursionError):
                break
            if line.name != name or as_text(line) != text:
                break
            found.append(line)
    return found


def first_fault(folder: pathlib.Path, lines: Sequence[Line]) -> int:
    """The first of these lines whose file is missing or has other bytes; their number where there is none."""
    with concurrent.futures.ThreadPoolExecutor(cores()) as pool:
        digests = pool.map(digest_or_not, (str(folder / line.name) for line in lines))
        wrong = (row for row, digest in enumerate(digests) if digest != lines[row].sha256)
        return next(wrong, len(lines))
