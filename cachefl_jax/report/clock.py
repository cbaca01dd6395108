"""Accuracy over virtual hours, and over the bytes that have travelled by then, of a run whose sites have profiles."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from cachefl_jax.report import curve, palette, units
from cachefl_jax.report.workdir import Run
from cachefl_jax.storage.run_files import CLOCK

Line = tuple[str, np.ndarray]  # label; [3, evaluations]: hours, bytes, accuracy


def shown(run: Run) -> dict[str, Any] | None:
    """{chart, caption}; None where the run has no clock."""
    lines = [(label, points) for label, rounds in curve.traces([run]) if (points := points_of(rounds)) is not None]
    if not lines:
        return None
    told = "; ".join(
        f"{label}: {units.percent(accuracy[-1])} after {units.three_digits(hours[-1])} virtual hours and "
        f"{units.readable_bytes(travelled[-1])}"
        for label, (hours, travelled, accuracy) in lines
    )
    own = run.summary["methods"].get(run.method, {}).get("sites") or {}
    return {"chart": palette.chart("clock", f"Accuracy on the clock. {told}.", draw(lines)), "caption": caption(own)}


def points_of(rounds: list[dict[str, Any]]) -> np.ndarray | None:
    """[3, evaluations] of the lines of a method's rounds; None without a clock."""
    travelled = np.cumsum([line["bytes_up"] + line["bytes_down"] for line in rounds])
    found = [
        (line[CLOCK] / 3600, count, line["test_accuracy"])
        for line, count in zip(rounds, travelled, strict=True)
        if line.get(CLOCK) is not None and line["test_accuracy"] is not None
    ]
    return np.array(found, np.float64).T if found else None


def caption(sites: dict[str, float]) -> str:
    """What is drawn, and what the sites of the run's own rounds did."""
    drawn = "Test accuracy by the virtual clock, and by the bytes of all sites, both ways."
    if "virtual_hours" not in sites:
        return drawn
    turn, waiting = (units.readable_seconds(sites.get(name)) for name in ("seconds", "waiting_seconds"))
    told = f"A site's turn took {turn} on average, and its update waited {waiting} to be taken; "
    told += f"{units.percent(sites.get('updates_lost'))} of the turns brought no update"
    if sites.get("staleness_most"):
        old, most = units.three_digits(sites["staleness"]), sites["staleness_most"]
        told += f". Updates were {old} steps of the server old on average, {most} at most"
    return f"{drawn} {told}. The clock follows from the sites' profiles; no device was timed."


def draw(lines: list[Line]):
    """The chart from its width: side by side, or below each other on a narrow page."""

    def at(width: float) -> Figure:
        wide = width > 6
        figure = Figure(figsize=(width, 2.8 if wide else 5.2), layout="constrained")
        panels = figure.subplots(*((1, 2) if wide else (2, 1)), sharey=True)
        for number, (axes, title) in enumerate(zip(panels, ("virtual hours", "bytes travelled"), strict=True)):
            panel(axes, title, [(label, points[number], points[2]) for label, points in lines])
        panels[1].xaxis.set_major_formatter(FuncFormatter(lambda count, _: units.readable_bytes(count)))
        if len(lines) > 1:
            panels[0].legend(frameon=False, fontsize=8)
        return figure

    return at


def panel(axes: Axes, title: str, lines: list[tuple[str, np.ndarray, np.ndarray]]) -> None:
    for number, (label, x, y) in enumerate(lines):
        colour = palette.SERIES[number % len(palette.SERIES)]
        dash = curve.DASHES[number // len(palette.SERIES) % len(curve.DASHES)]
        axes.plot(x, y, dash, color=colour, linewidth=1.8, label=label)
        axes.plot(x[-1], y[-1], "o", color=colour, markersize=4)
    axes.set_xlim(left=0)
    axes.set_xlabel(title)
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.4g}%"))
    axes.grid(axis="y", color=palette.LINE, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    axes.tick_params(left=False)
