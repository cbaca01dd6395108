"""A sweep's folder: whose it is, which points are done, and whether on the data that are there now."""

import json
import pathlib

from ml_collections import ConfigDict

from cachefl_jax.config.as_json import resolved
from cachefl_jax.config.partition import FOUND
from cachefl_jax.config.sites import file_of_profiles
from cachefl_jax.errors import UsageError
from cachefl_jax.simulation.made_of import files_of
from cachefl_jax.simulation.prepare import parts_of
from cachefl_jax.simulation.workdir import refuse_changes, refuse_other_files, tell_gone
from cachefl_jax.storage.files import write_whole
from cachefl_jax.storage.run_files import read_results, read_sweep


def claim(workdir: pathlib.Path, configs: list[ConfigDict]) -> dict[int, dict]:
    """The lines that the folder holds of this very sweep. Writes nothing.

    Raises UsageError: it holds something else."""
    ours, mark, results = [resolved(config) for config in configs], workdir / "sweep.json", workdir / "results.jsonl"
    refuse_other_files(workdir, mark, "a sweep's")
    if mark.is_file() and read_sweep(mark) != ours:
        raise UsageError(
            "--workdir", f"{workdir} with another sweep", "a new folder, or the same sweep", "name another"
        )
    if not results.is_file():
        return {}
    return {row["point"]: row for row in read_results(results) if row["point"] < len(configs)}


def left_of(lines: dict[int, dict], configs: list[ConfigDict]) -> list[int]:
    """The points that have no line yet."""
    return [number for number in range(len(configs)) if number not in lines]


def source_of(config: ConfigDict) -> str:
    """What a point's data, a partition that is not drawn, and sites' profiles are read from: points that agree in it
    are made of the same, but for what numbers and seeds choose of it."""
    groups = [config[group].to_dict() for group in ("data", "clip", "synthesis")]
    found = config.partition.name in FOUND
    read = [config.partition.name, config.partition.path] if found else []
    return json.dumps([*groups, *read, file_of_profiles(config)])


def files_of_sources(configs: list[ConfigDict]) -> dict[str, dict[str, str]]:
    """`made_of.files_of` by source."""
    points = {source_of(config): config for config in configs}
    return {source: files_of(config) for source, config in points.items()}


def refuse_other_data(workdir: pathlib.Path, lines: dict[int, dict], configs: list[ConfigDict]) -> None:
    """Stops where points that are done were made of other data than there are now, one point for each source.

    Raises UsageError: the parts that differ are named."""
    for number in one_of_each(lines, configs, "parts"):
        refuse_changes(workdir, lines[number]["parts"], parts_of(configs[number]))


def check_done(workdir: pathlib.Path, lines: dict[int, dict], configs: list[ConfigDict]) -> None:
    """As `refuse_other_data`, of a sweep that is finished. Files whose times are as they were are not read, and those
    that are gone are told.

    Raises UsageError: as `refuse_other_data`, or data that have changed cannot be read."""
    changed, gone = {}, {}
    for number in one_of_each(lines, configs, "files"):
        before, now = lines[number]["files"], files_of(configs[number])
        gone |= dict.fromkeys(sorted(before.keys() - now.keys()))
        if before.keys() <= now.keys() and before != now:
            changed[number] = lines[number]
    tell_gone(workdir, list(gone))
    refuse_other_data(workdir, changed, configs)


def one_of_each(lines: dict[int, dict], configs: list[ConfigDict], told: str) -> list[int]:
    """A point of each source, of those whose lines tell this of it; older versions told none."""
    found = {}
    for number, line in lines.items():
        if isinstance(line.get(told), dict):
            found.setdefault(source_of(configs[number]), number)
    return list(found.values())


def write_lines(path: pathlib.Path, lines: dict[int, dict]) -> None:
    text = "".join(json.dumps(lines[number], allow_nan=False) + "\n" for number in sorted(lines))
    write_whole(path, lambda file: file.write(text.encode()))
