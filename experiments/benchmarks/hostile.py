"""Tables and a picture of attacks against rules of aggregation, out of the sweep of `experiments/configs/hostile.py`.

    python -m experiments.sweep --config=experiments/configs/hostile.py --workdir=runs/hostile
    python -m experiments.benchmarks.hostile --sweep=runs/hostile

Test accuracies are means over seeds; each table's heading says what partition it is of. `hostile.png` in the sweep's
folder has them as points below the plain mean's accuracy without an attack.
"""

import argparse
import collections
import json
import pathlib

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from cachefl_jax.report import palette

Cells = dict[str, dict[str, list[float]]]  # attack -> rule -> a figure of each seed


def read(sweep: pathlib.Path, figure: str = "test_accuracy") -> dict[str, Cells]:
    """This figure of the sweep's runs by partition, attack and rule."""
    found = collections.defaultdict(lambda: collections.defaultdict(lambda: collections.defaultdict(list)))
    for row in map(json.loads, (sweep / "results.jsonl").read_text().splitlines()):
        fields = row["overrides"]
        partition = " ".join(
            str(fields[name]) for name in ("partition.name", "partition.concentration") if name in fields
        )
        rule = "clipped mean" if "updates.transforms" in fields else fields["aggregation.name"].replace("_", " ")
        entry = row["methods"]["cachefl"]
        if entry.get(figure) is not None or figure == "test_accuracy":
            value = np.nan if row["diverged"] else entry[figure]
            found[partition][fields["hostile.kind"].replace("_", " ")][rule].append(value)
    return found


def cell(values: list[float]) -> str:
    """Mean and standard deviation in %, or how many seeds diverged."""
    if lost := sum(map(np.isnan, values)):
        return f"{lost} of {len(values)} diverged"
    return f"{100 * np.mean(values):.1f} ± {100 * np.std(values, ddof=len(values) > 1):.1f}"


def table(cells: Cells) -> str:
    """Markdown: a line a rule, a column an attack; a rule's worst attack last."""
    rules = list(dict.fromkeys(rule for row in cells.values() for rule in row))
    lines = [["rule", *cells, "worst"], ["---", *["---:"] * (len(cells) + 1)]]
    for rule in rules:
        worst = min((np.mean(row[rule]) for kind, row in cells.items() if kind != "none"), default=np.nan)
        told = "-" if np.isnan(worst) else f"{100 * worst:.1f}"
        lines.append([rule, *(cell(row[rule]) if row.get(rule) else "-" for row in cells.values()), told])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def draw(partitions: dict[str, Cells], path: pathlib.Path) -> None:
    """A map of rules x attacks for each partition: accuracy, darker where it is lower."""
    shown = {name: cells for name, cells in partitions.items() if len(cells) > 1}
    with rc_context({**palette.STYLE, "font.size": 8}):
        figure = Figure(figsize=(palette.WIDE, 3.2 * len(shown)), layout="constrained")
        for axes, (name, cells) in zip(figure.subplots(len(shown), squeeze=False)[:, 0], shown.items(), strict=True):
            rules = list(next(iter(cells.values())))
            means = 100 * np.array([[np.mean(row[rule]) if row.get(rule) else np.nan for row in cells.values()]
                                    for rule in rules])  # fmt: skip
            axes.imshow(means, cmap="Blues_r", vmin=0, vmax=140, aspect="auto")
            for (at, column), value in np.ndenumerate(means):
                told = "-" if np.isnan(value) else f"{value:.0f}"
                axes.text(column, at, told, ha="center", va="center", color="white" if value < 60 else palette.INK)
            axes.set(title=f"{name}: test accuracy, %", xticks=range(len(cells)), yticks=range(len(rules)))
            axes.set_xticklabels(cells, rotation=20)
            axes.set_yticklabels(rules)
            axes.tick_params(length=0)
        figure.savefig(path, dpi=200, facecolor=palette.PAPER)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweep", required=True, type=pathlib.Path)
    given = parser.parse_args()
    partitions = read(given.sweep)
    for name, cells in partitions.items():
        print(f"\n{name}\n\n{table(cells)}")
    print("\na backdoor's success, %")
    for name, cells in read(given.sweep, "backdoor_success").items():
        print(f"\n{name}: {', '.join(f'{rule} {cell(each)}' for row in cells.values() for rule, each in row.items())}")
    if any(len(cells) > 1 for cells in partitions.values()):
        draw(partitions, given.sweep / "hostile.png")


if __name__ == "__main__":
    main()
