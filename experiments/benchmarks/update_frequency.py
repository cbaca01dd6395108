"""How often should sites and server meet? Local epochs a round against rounds, where equal virtual time has passed.

    python -m experiments.sweep --config=experiments/configs/sites.py --workdir=runs/sites
    python -m experiments.benchmarks.update_frequency --workdir=runs/sites

Prints a table of what the sweep has left, and draws test accuracy over virtual minutes and over bytes as
WORKDIR/update_frequency.png.
"""

import argparse
import pathlib
from collections.abc import Mapping

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from cachefl_jax.report import palette, units
from cachefl_jax.storage.run_files import read_results

SHARES = (0.25, 0.5, 1.0)  # of the time that the quickest setting takes in all
Curves = Mapping[str, Mapping[int, np.ndarray]]  # by profiles and epochs: [4, evaluations]


def curves(workdir: pathlib.Path) -> Curves:
    """Of each setting (round, virtual seconds, bytes of all sites, test accuracy) of its evaluations."""
    found: dict[str, dict[int, np.ndarray]] = {}
    for line in read_results(workdir / "results.jsonl"):
        changes, curve, entry = line["overrides"], line["curve"], line["methods"][line["method"]]
        rounds = np.array(curve["round"], np.float64)
        travelled = entry["total_bytes"] * rounds / rounds[-1]
        values = np.array([rounds, 3600 * np.array(curve["hours"]), travelled, curve["test"]])
        found.setdefault(changes["participation.profiles"], {})[changes["local.epochs"]] = values
    return found


def table(found: Curves) -> list[str]:
    """A row for each setting: accuracy, and rounds, by the last evaluation in each of these times."""
    lines = []
    for name, settings in found.items():
        whole = min(values[1, -1] for values in settings.values())
        for epochs, values in sorted(settings.items()):
            cells = [at(values, share * whole) for share in SHARES]
            per_round = units.readable_seconds(values[1, -1] / values[0, -1])
            lines.append(f"| {name} | {epochs} | {per_round} | {' | '.join(cells)} |")
        times = " | ".join(units.readable_seconds(share * whole) for share in SHARES)
        lines.append(f"| {name} | | virtual time | {times} |")
    return lines


def at(values: np.ndarray, seconds: float) -> str:
    """The accuracy of the last evaluation by then."""
    last = np.searchsorted(values[1], seconds * (1 + 1e-9), side="right") - 1
    return "-" if last < 0 else f"{100 * values[3, last]:.1f}% ({values[0, last]:.0f})"


def draw(found: Curves, path: pathlib.Path) -> None:
    """Test accuracy over virtual minutes and over bytes, a row of panels for each kind of sites."""
    with rc_context({**palette.STYLE, "font.size": 9}):
        figure = Figure(figsize=(palette.WIDE, 2.6 * len(found)), layout="constrained")
        panels = figure.subplots(len(found), 2, squeeze=False, sharey=True)
        for (by_time, by_bytes), (name, settings) in zip(panels, found.items(), strict=True):
            for colour, (epochs, (_, seconds, travelled, accuracy)) in zip(
                palette.SERIES, sorted(settings.items()), strict=False
            ):
                by_time.plot(seconds / 60, 100 * accuracy, color=colour, label=f"{epochs} local epochs")
                by_bytes.plot(travelled, 100 * accuracy, color=colour)
            by_time.set(xlabel="virtual minutes", ylabel=f"{name}: test accuracy, %", xscale="log")
            by_bytes.set(xlabel="bytes of all sites, both ways", xscale="log")
            by_bytes.xaxis.set_major_formatter(FuncFormatter(lambda count, _: units.readable_bytes(count)))
            by_time.xaxis.set_major_formatter(FuncFormatter(lambda minutes, _: f"{minutes:g}"))
        panels[0, 0].legend(frameon=False)
        figure.savefig(path, dpi=150, facecolor=palette.PAPER)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", required=True, type=pathlib.Path)
    given = parser.parse_args()
    found = curves(given.workdir)
    print("\n".join(table(found)))
    draw(found, given.workdir / "update_frequency.png")


if __name__ == "__main__":
    main()
