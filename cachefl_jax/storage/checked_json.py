"""JSON that a run or a sweep left in its folder, read back with every doubt raised before anything counts on it.

A file may have been cut, edited by hand or written by something else. `read` checks that it is plain JSON;
`check` holds each field against the kind that a table gives it. `cachefl_jax.storage.run_files` has the tables.
"""

import json
import math
import pathlib
import reprlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from cachefl_jax.errors import UsageError

DEEPEST = 32  # levels of lists and objects; what a run writes has five
MOST = 2.0**63  # no count, size or duration is larger
AGAIN = "repeat the run's own command without this file and summary.json in the folder: it makes both anew"


class Kind(NamedTuple):
    """What a field may hold, as a test and in words."""

    holds: Callable[[Any], bool]
    words: str


def real(value: Any) -> bool:
    """Whether it is a finite number of a size that counts and measures have. JSON's true and false are none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return -MOST <= value <= MOST  # false for NaN; whole numbers of any length compare exactly


def whole(value: Any) -> bool:
    return real(value) and isinstance(value, int) and value >= 0


NUMBER = Kind(real, "a number")
AMOUNT = Kind(lambda value: real(value) and value >= 0, "a number, 0 or more")
SHARE = Kind(lambda value: real(value) and 0 <= value <= 1, "a number from 0 to 1")
COUNT = Kind(whole, "a whole number, 0 or more")
TEXT = Kind(lambda value: isinstance(value, str), "text")
FLAG = Kind(lambda value: isinstance(value, bool), "true or false")
OBJECT = Kind(lambda value: isinstance(value, dict), "an object")


def maybe(kind: Kind) -> Kind:
    """`kind`, or null."""
    return Kind(lambda value: value is None or kind.holds(value), f"{kind.words}, or null")


def list_of(kind: Kind, least: int = 0) -> Kind:
    """A list of at least so many of `kind`."""
    words = f"a list of {f'at least {least}, each ' if least else ''}{kind.words}"
    return Kind(lambda value: isinstance(value, list) and len(value) >= least and all(map(kind.holds, value)), words)


def object_of(kind: Kind) -> Kind:
    """An object whose values are all of `kind`."""
    holds = lambda value: isinstance(value, dict) and all(map(kind.holds, value.values()))  # noqa: E731
    return Kind(holds, f"an object, each value {kind.words}")


class Fields(NamedTuple):
    """A table of fields: those that must be there, and those that may be absent. Others are nobody's concern here."""

    needed: Mapping[str, Kind]
    optional: Mapping[str, Kind]


def read(path: pathlib.Path, mend: str = AGAIN) -> Any:
    """The JSON of a whole file. Raises UsageError: it is missing, cannot be read or is no JSON."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise UsageError(f"workdir: {path}", "missing", "a file that a run wrote", mend) from error
    except OSError as error:
        reason = f"it cannot be read ({error.strerror})"
        raise UsageError(f"workdir: {path}", reason, "a file that can be read", "see to its permissions") from error
    return parse(content, str(path), mend)


def parse(content: bytes, place: str, mend: str = AGAIN) -> Any:
    """JSON in UTF-8, as plain values. Half of a surrogate pair becomes text, so that whatever was read can be written.

    Args:
        content: of a file, or of one of its lines.
        place: what the message calls it.

    Raises UsageError: it is no JSON, holds NaN or an infinity, or is nested deeper than `DEEPEST`."""
    try:
        return plain(json.loads(content.decode()), DEEPEST)
    except (ValueError, RecursionError) as error:
        told = "lists within lists without end" if isinstance(error, RecursionError) else reprlib.repr(content[:80])
        raise UsageError(f"workdir: {place}", told, "JSON that a run wrote", mend) from error


def plain(value: Any, levels: int) -> Any:
    """The value with every text fit to be written as UTF-8."""
    if levels < 0:
        raise ValueError("nested too deep")
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, list):
        return [plain(item, levels - 1) for item in value]
    if isinstance(value, dict):
        return {plain(name, levels): plain(item, levels - 1) for name, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("no number of JSON")  # NaN, Infinity, or 1e999
    return value


def check(fields: Any, table: Fields, place: str, prefix: str = "", mend: str = AGAIN) -> dict[str, Any]:
    """`fields`, when it is an object in which each field is of its kind.

    Args:
        place: the file, as the message calls it.
        prefix: of the fields' names in the message, such as "dataset.".

    Raises UsageError: names the first field that is missing or of another kind."""
    if not isinstance(fields, dict):
        name = f"{prefix.rstrip('.')} = " if prefix else ""
        raise UsageError(f"workdir: {place}", f"{name}{reprlib.repr(fields)}", "a JSON object", mend)
    for name, kind in (table.needed | table.optional).items():
        if name not in fields and name in table.optional:
            continue
        if name not in fields or not kind.holds(fields[name]):
            found = f"{prefix}{name} = {reprlib.repr(fields[name]) if name in fields else 'nothing'}"
            raise UsageError(f"workdir: {place}", found, kind.words, mend)
    return fields
