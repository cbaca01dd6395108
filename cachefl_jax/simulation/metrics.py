"""metrics.jsonl: a line a round, whole or not there."""

import json
import pathlib

from cachefl_jax.errors import UsageError
from cachefl_jax.storage.run_files import SCALARS, SPENT, UNSCORED, parse_round


def read_lines(path: pathlib.Path) -> list[dict]:
    """The lines of rounds 0, 1, 2 and so on, up to the first that is missing or damaged.

    A kill may cut the last line short, and hands may delete some or copy them: of a round's whole lines the last
    counts, and what comes after a gap does not.
    """
    if not path.is_file():
        return []
    found: dict[int, dict] = {}
    for line in path.read_bytes().splitlines(keepends=True):
        record = parse(line, str(path))
        if record is not None:
            found[record["round"]] = record
    first_missing = next(number for number in range(len(found) + 1) if number not in found)
    return [found[number] for number in range(first_missing)]


def parse(line: bytes, place: str) -> dict | None:
    """A line's record; None where it is not one that a run wrote whole."""
    try:
        return parse_round(line, place) if line.endswith(b"\n") else None
    except UsageError:
        return None


def as_one_run(records: list[dict], rounds: int, eval_every: int) -> list[dict]:
    """The records as a run of so many rounds leaves them: a shorter one had evaluated its last round, too."""
    return [
        record
        if record["round"] % eval_every == 0 or record["round"] == rounds
        else {name: value for name, value in record.items() if name not in (*SCALARS, SPENT)} | UNSCORED
        for record in records
    ]


def to_text(records: list[dict]) -> str:
    return "".join(json.dumps(record, allow_nan=False) + "\n" for record in records)
