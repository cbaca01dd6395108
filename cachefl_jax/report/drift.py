"""How far the clients of a round move apart, over the rounds: a panel for each number that the run measured."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cachefl_jax.report import palette, units
from cachefl_jax.report.workdir import Run
from cachefl_jax.storage.run_files import DRIFT

TITLES = {
    "update_norm": "length of an update",
    "cosine_to_mean": "cosine to the mean update",
    "gradient_diversity": "gradient diversity",
}
CAPTION = (
    "Before anything is done to the updates, weighted as the round weighs its clients. Cosine 1: all clients pull the "
    "same way. Gradient diversity is the sum of the squared lengths over the squared length of the sum: the larger, "
    "the more the clients cancel each other."
)


def shown(run: Run) -> dict[str, Any] | None:
    """{chart, caption}; None where the run measured no drift."""
    lines = [line for line in run.rounds if all(line.get(name) is not None for name in DRIFT)]
    if not lines:
        return None
    values = np.array([[line[name] for line in lines] for name in ("round", *DRIFT)], np.float64)
    ends = "; ".join(
        f"{TITLES[name]}: from {units.three_digits(own[0])} in round {lines[0]['round']} to "
        f"{units.three_digits(own[-1])} in round {lines[-1]['round']}"
        for name, own in zip(DRIFT, values[1:], strict=True)
    )
    return {"chart": palette.chart("drift", f"Drift of the clients. {ends}.", draw(values)), "caption": CAPTION}


def draw(values: np.ndarray):
    """The chart from its width: panels side by side, or below each other on a narrow page; values [4, rounds]."""

    def at(width: float) -> Figure:
        wide = width > 6
        figure = Figure(figsize=(width, 2.4 if wide else 6.0), layout="constrained")
        panels = figure.subplots(*((1, len(DRIFT)) if wide else (len(DRIFT), 1)), sharex=True)
        for axes, name, own in zip(panels, DRIFT, values[1:], strict=True):
            panel(axes, TITLES[name], values[0], own)
        for axes in panels if wide else panels[-1:]:
            axes.set_xlabel("round")
        return figure

    return at


def panel(axes: Axes, title: str, rounds: np.ndarray, values: np.ndarray) -> None:
    axes.set_title(title, loc="left", fontsize=10, color=palette.MUTED)
    axes.plot(rounds, values, color=palette.BLUE, linewidth=1.8)
    axes.plot(rounds[-1], values[-1], "o", color=palette.BLUE, markersize=4)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.grid(axis="y", color=palette.LINE, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    axes.tick_params(left=False)
