"""Runs every point that a config's `sweep(add)` adds and ranks them by validation accuracy, each setting by itself.

    python -m experiments.sweep --config=experiments/configs/digits.py --workdir=runs/sweep [--side_by_side]

Points that differ in numbers, seeds and partitions alone share one compiled program (`cachefl_jax.federation.sweep`);
what changes shapes makes another. Each point gets a line in DIR/results.jsonl: the overrides that make it, the command
that runs it alone, what came out, and the SHA-256 of its keys, which that command ends in too. DIR/report.html is the
page of the ranking. The same command again goes on where it was stopped.
"""

import importlib.util
import pathlib
import sys
from collections.abc import Iterator

from absl import flags
from ml_collections import ConfigDict, config_flags

from cachefl_jax.commands import called, command
from cachefl_jax.commands.named_flags import config_path
from cachefl_jax.config import changed, resolve, rows_of
from cachefl_jax.errors import UsageError
from cachefl_jax.simulation.ranking import ranking
from cachefl_jax.unused import unused

command.define("config", "workdir")
if "side_by_side" not in flags.FLAGS:
    flags.DEFINE_boolean("side_by_side", False, "vmap the points of a device rather than run one after another")


def points(file: str) -> list[dict]:
    """The overrides that the config file's `sweep(add)` adds, in order.

    Raises UsageError: the file has no sweep, or as `added`."""
    found = added(file, "sweep")
    if found is None:
        raise UsageError("--config", file, "a config file with sweep(add)", "define def sweep(add): add(rounds=10)")
    return found


def added(file: str, name: str) -> list[dict] | None:
    """The overrides that the config file's function of this name adds, in order; None where it has no such function.

    Raises UsageError: the file does not run, or the function adds nothing."""
    spec = importlib.util.spec_from_file_location("sweep_config", file)
    module = importlib.util.module_from_spec(spec)
    found: list[dict] = []
    try:
        spec.loader.exec_module(module)
        if not hasattr(module, name):
            return None
        getattr(module, name)(lambda **overrides: found.append(overrides))
    except UsageError:
        raise
    except (Exception, SystemExit) as error:  # the file is the user's own program, and raises whatever it does
        value = f"{file} ({name}(add): {type(error).__name__}: {error})"
        raise UsageError("--config", value, f"a Python file whose {name}(add) runs", "correct it") from error
    if not found:
        raise UsageError("--config", f"{file}: {name}(add) added nothing", "at least one point", "call add(...) in it")
    return found


def configs(base: ConfigDict, overrides: list[dict]) -> Iterator[ConfigDict]:
    """One config a point, each checked before the first one runs."""
    for changes in overrides:
        yield resolve(changed(base, changes, "sweep: "))


def main() -> None:
    base, workdir = command.required("config"), pathlib.Path(command.required("workdir"))
    file, *_ = config_path(config_flags.get_config_filename(flags.FLAGS["config"])).split(":", 1)
    overrides = points(file)
    given = [*called("run").split(), *config_words(sys.argv[1:])]
    if others := left_to_runs(base):
        print(
            f"a sweep trains {base.method}; {', '.join(others)}: by a run, or tuned alike by a study", file=sys.stderr
        )
    from cachefl_jax.simulation.sweep_points import run_points
    from cachefl_jax.simulation.sweep_report import write_sweep

    every = list(configs(base, overrides))
    for note in dict.fromkeys(note for config in every for note in unused(config)):
        print(note, file=sys.stderr)
    page, lines = workdir / "report.html", workdir / "results.jsonl"
    print(ranking(run_points(every, overrides, workdir, given, flags.FLAGS.side_by_side), every))
    if not page.is_file() or page.stat().st_mtime_ns < lines.stat().st_mtime_ns:  # a finished sweep is not touched
        write_sweep(workdir)
    print(f"report: {page}")


def left_to_runs(config: ConfigDict) -> list[str]:
    """The rows that are compared and have rounds that a sweep does not train."""
    rows = (row for row in rows_of(config) if row.regime not in ("zero_shot", "round_0"))
    return [row.name for row in rows if row[1:] != (config.method, "federated")]


def config_words(argv: list[str]) -> list[str]:
    """The words of the command line that say which config it is, --config FILE as one."""
    words = []
    for place, word in enumerate(argv):
        name = word.lstrip("-")
        if word.startswith("-") and name.split("=")[0].split(".")[0] == "config":
            words.append(f"--{name}" if "=" in name else f"--{name}={argv[place + 1]}")
    return words


def start() -> None:
    command.run(main)
