"""A study's folder: whose it is, and what is done already. Files in it:

study.json      what the study is asked for, which marks the folder as its own
runs.jsonl      a line for each training that is done: row, setting, seed, values, entry as in summary.json
"""

import base64
import json
import operator
import pathlib
import zlib
from typing import Any, NamedTuple

import numpy as np

from cachefl_jax.errors import UsageError
from cachefl_jax.simulation.made_of import package_digest
from cachefl_jax.simulation.scores import Right
from cachefl_jax.simulation.workdir import refuse_other_files
from cachefl_jax.storage.checked_json import (
    COUNT,
    FLAG,
    OBJECT,
    TEXT,
    Fields,
    Kind,
    check,
    maybe,
    parse,
    read,
)
from cachefl_jax.storage.files import write_whole
from cachefl_jax.storage.run_files import METHOD
from cachefl_jax.study.plan import Study

MARK, RUNS = "study.json", "runs.jsonl"
AGREES = "which test rows are right, as many as test_accuracy has"
MEND = "delete this line and repeat the study's own command: it makes the line anew"
LINE = Fields(
    {"setting": TEXT, "row": TEXT, "seed": COUNT, "candidate": COUNT, "values": OBJECT, "diverged": FLAG,
     "entry": OBJECT, "correct": maybe(TEXT), "parts": OBJECT, "files": OBJECT},
    {"code": TEXT, "predicted": maybe(TEXT)},  # older versions told none
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
    lines = read_lines(workdir / RUNS)
    asked = {setting.name for setting in study.settings}, {row.name for row in study.rows}, set(study.seeds)
    for key in lines:
        if not all(map(operator.contains, asked, key)):
            value = f"a line of setting {key.setting or 'as it is'}, row {key.row}, seed {key.seed}"
            raise UsageError(f"workdir: {workdir / RUNS}", value, "lines of what study.json asks for", MEND)
    return lines


def refuse_other_code(workdir: pathlib.Path, lines: Lines) -> None:
    """Stops before something is trained beside lines that other code has made: figures of two programs, or points of
    two searches, would stand in one table.

    Raises UsageError: there are such lines."""
    others = sorted({line.get("code", "an older version") for line in lines.values()} - {package_digest()})
    if others:
        value = f"{workdir}, begun by other code ({others[0][:16]}, now {package_digest()[:16]})"
        raise UsageError("--workdir", value, "the package as it was", "go on with that version, or name a new folder")


def read_lines(path: pathlib.Path) -> Lines:
    """The lines of runs.jsonl; of two of one key the later one counts. Raises UsageError: one is damaged."""
    found = {}
    for number, content in enumerate(path.read_bytes().splitlines() if path.is_file() else [], start=1):
        place = f"{path}, line {number}"
        line = check(parse(content, place, MEND), LINE, place, mend=MEND)
        check(line["entry"], METHOD, place, "entry.", MEND)
        check(line, Fields({"correct": Kind(lambda text, line=line: agrees(text, line), AGREES)}, {}), place, mend=MEND)
        found[key_of(line)] = line
    return found


def agrees(correct: str | None, line: dict[str, Any]) -> bool:
    """Whether the rows that are right come to the line's test accuracy; older versions told none of some."""
    if correct is None:
        return True
    try:
        shares = unpacked(correct)
        return len(shares) > 0 and abs(shares.mean() - line["entry"]["test_accuracy"]) < 1e-6
    except (KeyError, TypeError, ValueError):
        return False


def write_lines(path: pathlib.Path, lines: Lines) -> None:
    text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines.values())
    write_whole(path, lambda file: file.write(text.encode()))


def packed(right: Right) -> str:
    """How many models have each test row right, as text: of one model a bit a row, of more the smallest whole number
    that holds their count."""
    counts, models, _ = right
    small = np.packbits(counts.astype(bool)) if models == 1 else counts.astype(count_type(models))
    return f"{len(counts)}:{'' if models == 1 else f'{models}:'}{base64.b64encode(small.tobytes()).decode()}"


def unpacked(text: str) -> np.ndarray:
    """[n] float64: of each test row the share of models that have it right, of what `packed` gave."""
    count, *models, small = text.split(":")
    content = base64.b64decode(small)
    if not models:
        return np.unpackbits(np.frombuffer(content, np.uint8), count=int(count)).astype(float)
    return np.frombuffer(content, count_type(int(models[0])), int(count)) / max(int(models[0]), 1)


def packed_classes(predicted: np.ndarray) -> str:
    """Numbers of classes [n], -1 among them, as text."""
    return base64.b64encode(zlib.compress(predicted.astype("<i4").tobytes())).decode()


def unpacked_classes(text: str) -> np.ndarray:
    """[n] int32, of what `packed_classes` gave. Raises ValueError: the text is damaged."""
    try:
        return np.frombuffer(zlib.decompress(base64.b64decode(text)), "<i4")
    except zlib.error as error:
        raise ValueError(str(error)) from error


def count_type(models: int) -> np.dtype:
    """Little-endian, whatever the machine."""
    return np.min_scalar_type(models).newbyteorder("<")
