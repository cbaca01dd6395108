"""IDX files, as MNIST and its kin come: four arrays in one folder, gzipped or plain.

The format: two zero bytes, a byte for the type (8: uint8), one for the number of axes, each axis's length as a
big-endian uint32, then the values (LeCun, Cortes & Burges, "The MNIST database").

Axis letters: n rows, H W image.
"""

import gzip
import math
import pathlib
import re
import struct
import zlib
from typing import BinaryIO

import numpy as np

from cachefl_jax.data.classes import name_classes
from cachefl_jax.data.folder import find_root
from cachefl_jax.data.images import TEMPLATES, ImageSet, LabelledImages, fingerprint_of
from cachefl_jax.data.splits import find_splits
from cachefl_jax.errors import UsageError, listing
from cachefl_jax.storage.files import LARGEST_RATIO, check_room

FIELD = "data.path"
UINT8 = b"\x00\x00\x08"
PATTERN = re.compile(r"(?P<split>.+)-(?P<kind>images|labels)[-.]idx[1-4]-ubyte(\.gz)?")
AXES = range(1, 5)  # numbers of them, as in the files' names
BLOCK_BYTES = 2**22  # that are unpacked at once
TEST = "t10k"  # what MNIST calls its test split


def load(data, templates: tuple[str, ...] = TEMPLATES) -> ImageSet:
    """The IDX files in data.path, such as train-images-idx3-ubyte.gz; test and validation are None if not there.

    Plain files are mapped into memory, gzipped ones are read. The fingerprint is of their content.

    `data`: the config's data group (path, splits, class_names).

    Raises UsageError: a file is missing, is no IDX file, is cut short, or does not fit the others; it is named."""
    root = find_root(data.path)
    if not data.class_names:
        mend = "--config.data.class_names=('zero','one',...)"
        raise UsageError("data.class_names", "nothing", "a name for each label: IDX files have numbers only", mend)
    files = find_files(root)
    wanted = [TEST if name == "test" and TEST in files else name for name in data.splits]
    splits = find_splits(wanted, list(files), f"the IDX files in {root}")
    parts = {role: read_split(files[split]) if split else None for role, split in splits.items()}
    classes = name_classes(tuple(data.class_names), ())
    for part in parts.values():
        highest = int(part.labels.max(initial=0)) if part else 0
        if highest >= len(classes.names):
            allowed = f"at least {highest + 1}, one for each label"
            raise UsageError("data.class_names", f"{len(classes.names)} names", allowed, "name all classes")
    return ImageSet(**parts, class_names=classes.names, templates=templates)


def find_files(root: pathlib.Path) -> dict[str, dict[str, pathlib.Path]]:
    """{split: {"images": file, "labels": file}}; a plain file goes before a gzipped one of the same name."""
    files: dict[str, dict[str, pathlib.Path]] = {}
    for path in sorted(root.iterdir(), reverse=True):
        match = PATTERN.fullmatch(path.name)
        if match:
            files.setdefault(match["split"], {})[match["kind"]] = path
    for split, kinds in files.items():
        if len(kinds) < 2:
            present, absent = ("images", "labels") if "images" in kinds else ("labels", "images")
            allowed = f"a file of {absent} beside it"
            raise UsageError(FIELD, f"{root} ({present} of {split} alone)", allowed, "download the other")
    if not files:
        there = listing(sorted(path.name for path in root.iterdir())) or "nothing"
        allowed = "files such as train-images-idx3-ubyte.gz and train-labels-idx1-ubyte.gz"
        raise UsageError(FIELD, f"{root} (holds {there})", allowed, "correct the path")
    return files


def read_split(files: dict[str, pathlib.Path]) -> LabelledImages:
    """One split's images and labels, checked against each other."""
    images, labels = read_idx(files["images"]), read_idx(files["labels"])
    if images.ndim not in (3, 4) or images.shape[3:] not in ((), (3,)):
        raise refused(files["images"], f"shape {images.shape}", "[n, H, W] or [n, H, W, 3]")
    if labels.shape != images.shape[:1]:
        raise refused(files["labels"], f"shape {labels.shape}", f"[{len(images)}], a label for each image")
    return LabelledImages(images, labels.astype(np.int32), fingerprint_of(images, labels))


def read_idx(path: pathlib.Path) -> np.ndarray:
    """The uint8 array in an IDX file.

    Raises UsageError: the file is none, is not exactly as long as its header says, or there is no memory for it."""
    zipped = path.suffix == ".gz"
    try:
        with gzip.open(path, "rb") if zipped else path.open("rb") as file:
            shape, start = read_header(path, file)
            size = math.prod(shape)
            values = unpacked(path, file, size) if zipped else b""
            found = len(values) if zipped else path.stat().st_size - start
    except (OSError, EOFError, zlib.error) as error:
        raise refused(path, f"{type(error).__name__}: {error}", "a readable IDX file") from error
    if found != size:
        excess = "cut short" if found < size else "longer"
        raise refused(path, f"{excess}: {found} values", f"{size} values, as its header says {shape}")
    if not size:
        raise refused(path, f"no values, of shape {shape}", "one or more")
    if zipped:
        return np.frombuffer(values, np.uint8).reshape(shape)
    return np.memmap(path, np.uint8, "r", start, shape)


def read_header(path: pathlib.Path, file: BinaryIO) -> tuple[tuple[int, ...], int]:
    """(shape, bytes of the header)."""
    magic = file.read(4)
    if len(magic) < 4 or magic[:3] != UINT8:
        raise refused(path, f"begins with {magic.hex() or 'nothing'}", "an IDX file of uint8, 000008..")
    axes = magic[3]
    if axes not in AXES:
        raise refused(path, f"{axes} axes", f"{AXES[0]} to {AXES[-1]}")
    lengths = file.read(4 * axes)
    if len(lengths) < 4 * axes:
        raise refused(path, "cut short in its header", "a whole file")
    return struct.unpack(f">{axes}I", lengths), 4 + len(lengths)


def unpacked(path: pathlib.Path, file: BinaryIO, size: int) -> bytearray:
    """The `size` values that a header promises; one more where there are more, whatever a hostile archive would give.

    Nothing is allocated for values that the archive's own bytes cannot hold, nor for those that have not come."""
    packed = path.stat().st_size
    if size > packed * LARGEST_RATIO:
        raise refused(path, f"{packed:,} bytes", f"more of them, for the {size:,} values that its header promises")
    check_room(FIELD, path, size)
    values = bytearray()
    while len(values) <= size and (block := file.read(min(BLOCK_BYTES, size + 1 - len(values)))):
        values += block
    return values


def refused(path: pathlib.Path, found: str, allowed: str) -> UsageError:
    return UsageError(FIELD, f"{path} ({found})", allowed, "download the file again")
