"""For which classes and which clients a model is right: what one accuracy over all rows does not tell."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from cachefl_jax.report import palette, table, units
from cachefl_jax.report.table import Column, MethodRow
from cachefl_jax.report.workdir import Run

MOST_CLASSES = 20  # of the chart; of more, those with the lowest accuracy
MOST_LETTERS = 24  # of a class name
LINE_HEIGHT = 0.23  # inches a class
REFERENCE = "zero_shot"


def over_clients(row: MethodRow, name: str) -> float | None:
    return units.number(row.entry.get("clients") or {}, name)


def decimals(value: float | None) -> str:
    """0.12345 -> "0.123"."""
    return units.EMPTY if value is None else f"{value:.3f}"


COLUMNS = (
    Column("balanced accuracy", "", lambda row: units.percent(units.number(row.entry, "test_balanced_accuracy"))),
    Column("clients, mean", "", lambda row: units.percent(over_clients(row, "mean"))),
    Column("clients, worst tenth", "", lambda row: units.percent(over_clients(row, "worst_tenth"))),
    Column("clients, std", "", lambda row: units.percent(over_clients(row, "std"))),
    Column("calibration error", "", lambda row: units.percent(units.number(row.entry, "test_ece"))),
    Column("cross-entropy", "", lambda row: decimals(units.number(row.entry, "test_cross_entropy"))),
)
LEGEND = (
    "Balanced accuracy is the mean over the classes. A client's accuracy is {own}; the worst tenth is the mean "
    "over the lowest tenth of the clients, std the standard deviation over all. Calibration error: how far the largest "
    "probability is from the accuracy, over 15 equal bins (ECE). Cross-entropy in nats."
)
OWN = {
    "reweighted": "that of each class on the test rows, weighted by the client's own shares of the classes",
    "dealt": "that on the client's own test rows, which are dealt by its shares of each class",
    "site": "that on the test rows of its own site",
}


def shown(runs: Sequence[Run]) -> dict[str, Any]:
    """The table of figures beside the accuracy, without columns where no run has any."""
    rows = [row for run in runs for row in table.method_rows(run.summary)]
    columns = [column for column in COLUMNS if any(column.cell(row) != units.EMPTY for row in rows)]
    kinds = {(run.config.get("evaluation") or {}).get("client_rows", "reweighted") for run in runs}
    own = " or ".join(dict.fromkeys(OWN.get(kind, OWN["reweighted"]) for kind in sorted(kinds)))
    return {"columns": columns, "legend": LEGEND.format(own=own)}


def pace(run: Run) -> str:
    """By which round shares of the final gain were there; "" where nothing was gained or nobody counted."""
    row = table.main_row(run)
    rounds = row.entry.get("rounds_to") or {}
    told = [f"{share}% by round {number:,}" for share, number in rounds.items() if number is not None]
    if not told:
        return ""
    return f"Of the gain in test accuracy over round 0, {row.label} had {', '.join(told)}."


def class_chart(run: Run) -> dict[str, Any] | None:
    """{chart, caption}: the accuracy on each class; None where the run's method has none."""
    row, entries = table.main_row(run), run.summary["methods"]
    own = entries.get(run.method, {}).get("test_class_accuracy")
    if not own or len(own) != len(run.class_names):
        return None
    before = entries.get(REFERENCE, {}).get("test_class_accuracy")
    values = np.array([own, before if before and len(before) == len(own) else [None] * len(own)], np.float64)
    known = np.flatnonzero(~np.isnan(values[0]))
    order = known[np.argsort(values[0][known], kind="stable")][:MOST_CLASSES]
    if not len(order):
        return None
    names = [run.class_names[number] for number in order]
    told = "; ".join(f"{name}: {units.percent(share)}" for name, share in zip(names, values[0][order], strict=True))
    compared = not np.isnan(values[1][order]).all()
    caption = [
        f"Filled: {row.label}. " + (f"Hollow: {table.label(REFERENCE)}. " if compared else ""),
        f"The {len(order)} of {len(own):,} classes on which {row.label} is right least often."
        if len(order) < len(known) else "The lowest come first.",
    ]  # fmt: skip
    return {
        "chart": palette.chart("classes", f"Test accuracy on each class. {told}.", draw(names, values[:, order])),
        "caption": "".join(caption),
    }


def draw(names: Sequence[str], values: np.ndarray):
    """The chart from its width: a line a class, from the reference's accuracy to the method's; values [2, classes]."""

    def at(width: float) -> Figure:
        most = MOST_LETTERS if width > 6 else MOST_LETTERS // 2
        labels = [palette.shortened(name, most) for name in names]
        height = LINE_HEIGHT * len(names) + 0.5
        figure = Figure(figsize=(width, height))
        left = (0.085 * max(map(len, labels)) + 0.15) / width
        axes = figure.add_axes((left, 0.45 / height, 1 - left - 0.25 / width, 1 - 0.5 / height))
        places, (own, before) = np.arange(len(names)), values
        axes.hlines(places, before, own, color=palette.LINE, linewidth=2.5)
        axes.plot(before, places, "o", color=palette.MUTED, markerfacecolor=palette.PAPER, markersize=5, clip_on=False)
        axes.plot(own, places, "o", color=palette.BLUE, markersize=6, clip_on=False)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_yticks(places, labels)
        axes.set_xlim(max(0, np.nanmin(values) - 0.03), 1)
        axes.xaxis.set_major_locator(MaxNLocator(6 if width > 6 else 3, steps=[1, 2, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.4g}%"))
        axes.grid(axis="x", color=palette.LINE, linewidth=0.5)
        axes.set_axisbelow(True)
        axes.spines["left"].set_visible(False)
        axes.tick_params(left=False)
        return figure

    return at


def section(run: Run) -> dict[str, Any]:
    """What the page of one run tells of classes, clients and pace."""
    return {**shown([run]), "pace": pace(run), "classes": class_chart(run)}
