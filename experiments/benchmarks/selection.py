"""Rules of selection set against the first images of each class, seed by seed, from sweeps of configs/selection.

    python -m experiments.benchmarks.selection runs/selection [runs/selection_bank ...]

Percent of the test rows, the mean over seeds and its standard error; of each rule less "first", the mean of the
differences of seeds and its standard error, with a star where it is more than two of them from 0. Of each number of
keys, the rule of the best validation accuracy after tuning is named: that is the one that a user would take.
"""

import argparse
import collections
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from cachefl_jax.storage.run_files import read_results
from experiments.benchmarks.tables import markdown

HEADING = ("keys", "rule", "round 0", "less first", "tuned", "less first", "validation, tuned")
Cells = Mapping[tuple[int, str], Mapping[int, Mapping[str, float]]]  # (keys, rule) -> seed -> accuracies


def read(workdir: pathlib.Path) -> Cells:
    """The accuracies of every point of a sweep."""
    cells = collections.defaultdict(dict)
    for row in read_results(workdir / "results.jsonl"):
        start, tuned = (row["methods"][name] for name in ("cache_init", row["method"]))
        point = row["overrides"]
        cells[point["cache.keys_per_class"], point["synthesis.selection"]][point["seed"]] = {
            "start": start["test_accuracy"],
            "tuned": tuned["test_accuracy"],
            "validation": tuned["validation_accuracy"],
        }
    return cells


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and the standard error of it, in percent."""
    percent = 100 * np.asarray(values)
    return float(percent.mean()), float(percent.std(ddof=1) / np.sqrt(len(percent)))


def difference(cells: Cells, keys: int, rule: str, what: str) -> str:
    """A rule's accuracies less those of "first", seed by seed."""
    own, first = cells[keys, rule], cells[keys, "first"]
    mean, error = mean_and_error([own[seed][what] - first[seed][what] for seed in sorted(own)])
    return f"{mean:+.2f} ± {error:.2f}{'*' if abs(mean) > 2 * error else ''}"


def table(cells: Cells) -> str:
    lines = [HEADING]
    for keys, rule in sorted(cells, key=lambda each: each[0]):
        seeds = cells[keys, rule].values()
        means = {
            what: "{:.2f} ± {:.2f}".format(*mean_and_error([seed[what] for seed in seeds]))
            for what in ("start", "tuned", "validation")
        }
        less = ["", ""] if rule == "first" else [difference(cells, keys, rule, what) for what in ("start", "tuned")]
        lines.append((str(keys), rule, means["start"], less[0], means["tuned"], less[1], means["validation"]))
    return markdown(lines)


def chosen(cells: Cells, keys: int) -> str:
    """What choosing by validation accuracy comes to."""
    rules = [rule for number, rule in cells if number == keys]
    best = max(rules, key=lambda rule: np.mean([seed["validation"] for seed in cells[keys, rule].values()]))
    less = "" if best == "first" else f", {difference(cells, keys, best, 'tuned')} less first on test rows"
    return f"{keys} keys: validation rows choose {best}{less}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workdirs", nargs="+", type=pathlib.Path)
    for workdir in parser.parse_args().workdirs:
        cells = read(workdir)
        count = len(next(iter(cells.values())))
        print(f"{workdir.name}, {count} seeds\n\n{table(cells)}\n")
        print("\n".join(chosen(cells, keys) for keys in sorted({keys for keys, _ in cells})), end="\n\n")


if __name__ == "__main__":
    main()
