"""A sweep's folder to its page."""

import pathlib

from cachefl_jax.config import from_json
from cachefl_jax.data.suite import title_of
from cachefl_jax.report.sweep import Sweep, write_sweep_report
from cachefl_jax.simulation.ranking import settings_of
from cachefl_jax.storage.run_files import read_results, read_sweep


def write_sweep(workdir: pathlib.Path, output: pathlib.Path | None = None) -> pathlib.Path:
    """Writes the page of a sweep, with what it has done so far; returns its path.

    Raises UsageError: a file of the sweep is damaged, or `output` is a file that is no page."""
    configs = [from_json(config) for config in read_sweep(workdir / "sweep.json")]
    file = workdir / "results.jsonl"
    lines = [row for row in read_results(file) if row["point"] < len(configs)] if file.exists() else []
    names = ", ".join(dict.fromkeys(title_of(config.data) for config in configs))
    sweep = Sweep(workdir.resolve().name, names, len(configs), settings_of(lines, configs))
    return write_sweep_report(workdir, sweep, output)
