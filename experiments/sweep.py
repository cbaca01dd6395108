"""Runs every point that a config's `sweep(add)` adds, one after another, and ranks them by validation accuracy.

    python -m experiments.sweep --config=experiments/configs/digits.py --workdir=runs/sweep

Each point is a run of its own in DIR/NNN, so it resumes and can be run again alone; its line in DIR/results.jsonl
holds the overrides that make it.
"""

import collections
import importlib.util
import json
import pathlib
import statistics
from collections.abc import Iterator

from absl import flags
from ml_collections import ConfigDict, config_flags

from cachefl_jax.errors import UsageError
from cachefl_jax.files import write_whole
from experiments import command

command.define("config", "workdir")


def points(file: str) -> list[dict]:
    """The overrides that the config file's `sweep(add)` adds, in order.

    Raises:
        UsageError: the file has no sweep, or it adds nothing.
    """
    spec = importlib.util.spec_from_file_location("sweep_config", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "sweep"):
        raise UsageError("--config", file, "a config file with sweep(add)", "define def sweep(add): add(rounds=10)")
    found: list[dict] = []
    module.sweep(lambda **overrides: found.append(overrides))
    if not found:
        raise UsageError("--config", f"{file}: sweep(add) added nothing", "at least one point", "call add(...) in it")
    return found


def configs(base: ConfigDict, overrides: list[dict]) -> Iterator[ConfigDict]:
    """One config a point, each checked before the first one runs."""
    from cachefl_jax.config import lookup, resolve

    for changes in overrides:
        config = base.copy_and_resolve_references()
        for field, value in changes.items():
            try:
                lookup(config, field)
            except (KeyError, AttributeError, TypeError) as error:
                raise UsageError(f"sweep: {field}", value, "a field of the config", "correct the name") from error
            config.update_from_flattened_dict({field: value})
        yield resolve(config)


def main() -> None:
    base, workdir = command.required("config"), pathlib.Path(command.required("workdir"))
    file = config_flags.get_config_filename(flags.FLAGS["config"])
    from experiments.train import train_and_evaluate

    overrides = points(file)
    results = []
    for number, (changes, config) in enumerate(zip(overrides, list(configs(base, overrides)), strict=True)):
        print(f"point {number + 1} of {len(overrides)}: {changes}")
        summary = train_and_evaluate(config, workdir / f"{number:03d}")
        results.append({"point": number, "overrides": changes, "methods": summary["methods"]})
        lines = "".join(json.dumps(row) + "\n" for row in results)
        write_whole(workdir / "results.jsonl", lambda stream, text=lines: stream.write(text.encode()))
    print(ranking(results))


def ranking(results: list[dict]) -> str:
    """The points, best validation accuracy first, the mean over seeds; test accuracy is not looked at."""
    groups = collections.defaultdict(list)
    for row in results:
        fields = tuple(item for item in row["overrides"].items() if item[0] != "seed")
        groups[fields].append(row["methods"]["cachefl"]["validation_accuracy"])
    scored = [(statistics.mean(scores), len(scores), fields) for fields, scores in groups.items() if None not in scores]
    if not scored:
        return "the data has no validation rows: nothing to rank by"
    lines = ["validation  runs  point"]
    for score, runs, fields in sorted(scored, key=lambda entry: -entry[0]):
        lines.append(f"{score:10.4f}  {runs:4d}  {', '.join(f'{name}={value}' for name, value in fields)}")
    return "\n".join(lines)


if __name__ == "__main__":
    command.run(main)
