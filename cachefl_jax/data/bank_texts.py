"""What a bank says in words: the classes' names, and a JSON string about where its features come from.

Axis letter: N classes.
"""

import json
import math
import pathlib
from typing import NoReturn

import numpy as np

from cachefl_jax.data.class_names import check_text
from cachefl_jax.errors import UsageError
from cachefl_jax.storage.archive import Archive
from cachefl_jax.storage.files import check_room

FIELD = "data.path"
DEFAULT_LOGIT_SCALE = 100.0  # every released CLIP ends its training at this ceiling
LOGIT_SCALES = (10.0, 1000.0)  # CLIP begins at 14 and ends at 100, SigLIP near 115; their logarithms are below 7
LONGEST_NAME = 1000  # characters of a class's name
LARGEST_METADATA = 2**24  # bytes
DEEPEST_METADATA = 50  # lists and objects within each other


def given_names(archive: Archive) -> tuple[str, ...]:
    """The array class_names, as texts."""
    path, mend = archive.path, "save numpy.array(names, dtype=str)"
    header = archive.header("class_names")
    if header.dtype.kind not in "USiu":
        refuse(path, "class_names", f"{header.dtype}", "[N] texts", mend)
    if len(header.shape) != 1:  # the order of a table's names would be a guess
        refuse(path, "class_names", f"shape {header.shape}", "[N] texts, a name for each class", mend)
    if header.dtype.itemsize > 4 * LONGEST_NAME:
        found = f"names of up to {header.dtype.itemsize:,} bytes"
        refuse(path, "class_names", found, f"names of at most {LONGEST_NAME:,} characters", "shorten them")
    check_room(FIELD, path, header.size)
    names = tuple(texts(path, "class_names", archive.read("class_names")))
    check_text(f"{FIELD}: {path}: class_names", names, "rename them in the bank")
    return names


def texts(path: pathlib.Path, name: str, array: np.ndarray) -> list[str]:
    """The elements of an array, as text; bytes are UTF-8."""
    try:
        return [each.decode() if isinstance(each, bytes) else str(each) for each in array.reshape(-1).tolist()]
    except ValueError as error:  # bytes or code points that no character has
        refuse(path, name, f"what is no text ({error})", "text in UTF-8", f"save {name} as str")


def read_metadata(archive: Archive) -> tuple[float, dict]:
    """(logit scale, all metadata)."""
    path, allowed, mend = archive.path, "a JSON object with a numeric logit_scale", "save json.dumps({...})"
    if "metadata" not in archive.names:
        return DEFAULT_LOGIT_SCALE, {}
    header = archive.header("metadata")
    if header.dtype.kind not in "US" or math.prod(header.shape) != 1 or header.size > LARGEST_METADATA:
        found = f"shape {header.shape} of {header.dtype}"
        refuse(path, "metadata", found, f"one text of at most {LARGEST_METADATA:,} bytes", mend)
    (text,) = texts(path, "metadata", archive.read("metadata"))
    try:
        metadata = json.loads(text)
        scale = float(metadata.get("logit_scale", DEFAULT_LOGIT_SCALE))
    except (ValueError, TypeError, AttributeError, OverflowError):
        refuse(path, "metadata", "unreadable", allowed, mend)
    except RecursionError:
        metadata = None
    if metadata is None or depth(metadata) > DEEPEST_METADATA:
        refuse(path, "metadata", "too many lists within lists", f"at most {DEEPEST_METADATA} within each other", mend)
    check_scale(path, scale)
    return scale, metadata


def depth(value: object) -> int:
    """How many lists and objects of JSON lie within each other."""
    levels, these = 0, [value]
    while these := [each for each in these if isinstance(each, dict | list)]:
        levels += 1
        these = [inner for each in these for inner in (each.values() if isinstance(each, dict) else each)]
    return levels


def check_scale(path: pathlib.Path, scale: float) -> None:
    """Refuses a logit scale that no model has: most often its logarithm, which is what models store."""
    least, most = LOGIT_SCALES
    if least <= scale <= most:
        return
    mend = "save exp(model.logit_scale)"
    if math.log(least) <= scale <= math.log(most):
        mend += f", {math.exp(scale):.4g}: {scale:.5g} is the logarithm, as models store it"
    elif 1 / most <= scale <= 1 / least:
        mend = f"save its inverse, {1 / scale:.4g}: {scale:.5g} is a temperature"
    allowed = f"{least:g} to {most:g}: a CLIP begins at 14 and ends at 100, a SigLIP has about 115"
    refuse(path, "metadata: logit_scale", scale, allowed, mend)


def refuse(path: pathlib.Path, name: str, value: object, allowed: str, mend: str) -> NoReturn:
    raise UsageError(f"{FIELD}: {path}: {name}", value, allowed, mend)
