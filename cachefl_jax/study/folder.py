"""A study's folder: whose it is, and what is done already. Files in it:

study.json      what the study is asked for, which marks the folder as its own
runs.jsonl      a line for each training that is done: row, setting, seed, values, entry as in summary.json
"""

import base64
import json
import pathlib
from typing import Any, NamedTuple

import numpy as np

from cachefl_jax.errors import UsageError
from cachefl_jax.simulation.workdir import refuse_other_files
from cachefl_jax.storage.checked_json import (
    COUNT,
    FLAG,
    OBJECT,
    TEXT,
    Fields,
    check,
    maybe,
    parse,
    read,
)
from cachefl_jax.storage.files import write_whole
from cachefl_jax.storage.run_files import METHOD
from cachefl_jax.study.plan import Study

MARK, RUNS, LOCK_NAMES = "study.json", "runs.jsonl", ("study.json", "runs.jsonl")
MEND = "delete this line and repeat the study's own command: it makes the line anew"
LINE = Fields(
    {"setting": TEXT, "row": TEXT, "seed": COUNT, "candidate": COUNT, "values": OBJECT, "diverged": FLAG,
     "entry": OBJECT, "correct": maybe(TEXT), "parts": OBJECT, "files": OBJECT},
    {},
)  # fmt: skip


class Key(NamedTuple):
    """Which training a line tells of."""

    setting: str
    row: str
    seed: int
    candidate: int


Lines = dict[Key, dict[str, Any]]


def key_of(line: dict[str, Any]) -> Key:
    return Key(*(line[name] for name in Key._fields))


def claim(workdir: pathlib.Path, study: Study) -> Lines:
    """The lines that the folder holds of this very study. Writes nothing.

    Raises UsageError: it holds something else, or a line is damaged."""
    mark = workdir / MARK
    refuse_other_files(workdir, mark, "a study's")
    if not mark.is_file():
        return {}
    theirs, ours = read(mark), json.loads(json.dumps(study.mark()))
    if theirs != ours:
        parts = sorted(name for name in ours if not isinstance(theirs, dict) or theirs.get(name) != ours[name])
        value = f"{workdir} with another study (other {', '.join(parts)})"
        raise UsageError("--workdir", value, "a new folder, or the same study", "name another")
    return read_lines(workdir / RUNS)


def read_lines(path: pathlib.Path) -> Lines:
    """The lines of runs.jsonl; of two of one key the later one counts. Raises UsageError: one is damaged."""
    found = {}
    for number, content in enumerate(path.read_bytes().splitlines() if path.is_file() else [], start=1):
        place = f"{path}, line {number}"
        line = check(parse(content, place, MEND), LINE, place, mend=MEND)
        check(line["entry"], METHOD, place, "entry.", MEND)
        found[key_of(line)] = line
    return found


def write_lines(path: pathlib.Path, lines: Lines) -> None:
    text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines.values())
    write_whole(path, lambda file: file.write(text.encode()))


def packed(correct: np.ndarray) -> str:
    """Which test rows are right, [n] bool, as text: a bit a row."""
    return f"{len(correct)}:{base64.b64encode(np.packbits(correct)).decode()}"


def unpacked(text: str) -> np.ndarray:
    """[n] bool, of what `packed` gave."""
    count, bits = text.split(":")
    return np.unpackbits(np.frombuffer(base64.b64decode(bits), np.uint8), count=int(count)).astype(bool)
