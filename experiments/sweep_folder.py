"""A sweep's folder: whose it is, which points are done, and whether on the data that are there now."""

import json
import pathlib

from ml_collections import ConfigDict

from cachefl_jax.errors import UsageError
from cachefl_jax.storage.files import write_whole
from cachefl_jax.storage.run_files import read_results, read_sweep
from experiments.prepare import parts_of
from experiments.workdir import refuse_changes, resolved


def claim(workdir: pathlib.Path, configs: list[ConfigDict]) -> dict[int, dict]:
    """The lines that the folder holds of this very sweep. Writes nothing.

    Raises:
        UsageError: it holds something else.
    """
    ours, mark, results = [resolved(config) for config in configs], workdir / "sweep.json", workdir / "results.jsonl"
    if workdir.exists() and not workdir.is_dir():
        raise UsageError("--workdir", str(workdir), "a folder", "this is a file: name another")
    if not mark.is_file():
        if workdir.is_dir() and any(not entry.name.startswith(".") for entry in workdir.iterdir()):
            value = f"{workdir} with files but no sweep.json"
            raise UsageError("--workdir", value, "a new or empty folder, or a sweep's", "name another folder")
    elif read_sweep(mark) != ours:
        raise UsageError(
            "--workdir", f"{workdir} with another sweep", "a new folder, or the same sweep", "name another"
        )
    if not results.is_file():
        return {}
    return {row["point"]: row for row in read_results(results) if row["point"] < len(configs)}


def left_of(lines: dict[int, dict], configs: list[ConfigDict]) -> list[int]:
    """The points that have no line yet."""
    return [number for number in range(len(configs)) if number not in lines]


def refuse_other_data(workdir: pathlib.Path, lines: dict[int, dict], configs: list[ConfigDict]) -> None:
    """Stops where points that are done were made of other data than there are now, one point for each source.

    Raises:
        UsageError: the parts that differ are named.
    """
    checked = set()
    for number, told in lines.items():
        name = json.dumps([configs[number][group].to_dict() for group in ("data", "clip", "synthesis")])
        if name in checked or not isinstance(told.get("parts"), dict):  # older versions told none
            continue
        checked.add(name)
        refuse_changes(workdir, told["parts"], parts_of(configs[number]))


def write_lines(path: pathlib.Path, lines: dict[int, dict]) -> None:
    text = "".join(json.dumps(lines[number], allow_nan=False) + "\n" for number in sorted(lines))
    write_whole(path, lambda file: file.write(text.encode()))
