"""Accuracy over the rounds: the curves of a run's methods, or of several runs, and what else is compared as labelled
horizontal lines."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from cachefl_jax.report import palette, table, units
from cachefl_jax.report.palette import shortened
from cachefl_jax.report.workdir import Run

MOST_LABELS = 10  # beyond it, baselines that are one run's own are left to the table
LINE_HEIGHT = 13.5  # points from one label to the next, at least


MOST_CURVES = 24  # runs that are drawn

BASELINE = "--"
DASHES = ("-", "-.", ":")  # runs beyond the last colour start again with another dash,
MARKERS = ("o", "s")  # and beyond the last dash with another mark at the end: no two look alike


class Series(NamedTuple):
    """Something that the plot shows: a curve, or a baseline with a single y and no x."""

    label: str
    colour: str
    x: list[int]
    y: list[float]
    dash: str  # how the line is drawn; "-" is solid
    thin: bool = False  # a validation curve; among several runs it goes without a label
    marker: str = "o"


def accuracy_chart(runs: Sequence[Run]) -> Markup | None:
    """The plot of all runs; None where no round was evaluated."""
    curves = all_curves(runs)
    if not curves:
        return None
    lines = baselines(runs, MOST_LABELS - len(curves))
    description = "Accuracy over the rounds. " + "; ".join(
        f"{series.label}: from {units.percent(series.y[0])} in round {series.x[0]} "
        f"to {units.percent(series.y[-1])} in round {series.x[-1]}"
        for series in curves
    )
    description += "".join(f"; {line.label}: {units.percent(line.y[0])}" for line in lines)
    return palette.chart("accuracy", description + ".", lambda width: draw(width, curves, lines))


def all_curves(runs: Sequence[Run]) -> list[Series]:
    """At most `MOST_CURVES` curves, the first ones; of more than there are colours the test curves alone."""
    traced = traces(runs)
    several, crowded = len(traced) > 1, len(traced) > len(palette.SERIES)
    found = enumerate(traced[:MOST_CURVES])
    curves = [series for index, trace in found for series in curves_of(*trace, index, several)]
    return [series for series in curves if not (crowded and series.thin)]


def traces(runs: Sequence[Run]) -> list[tuple[str, list[dict[str, Any]]]]:
    """(label, lines of metrics) of every federated method of one run, or of each run's own."""
    if len(runs) > 1:
        return [(run.name, run.rounds) for run in runs]
    (run,) = runs
    methods = run.summary["methods"]
    others = [(table.label(name, methods[name]), rounds) for name, rounds in run.compared.items()]
    return [(table.main_row(run).label, run.rounds), *others]


def caption(runs: Sequence[Run]) -> str:
    """What the lines are; or, without any, why there are none."""
    curves = all_curves(runs)
    if not curves:
        trained = any(row["round"] > 0 for _, rounds in traces(runs) for row in rounds)
        return "No round was evaluated." if trained else "No federated round was run."
    sentences = [
        "Thick: test accuracy." if any(not series.thin for series in curves) else "",
        "Thin: validation accuracy." if any(series.thin for series in curves) else "",
        "Dashed: the methods to compare with." if baselines(runs, MOST_LABELS - len(curves)) else "",
        "Round 0 is before any training." if any(series.x[0] == 0 for series in curves) else "",
        f"Drawn are the first {MOST_CURVES} of {len(runs)} runs." if len(runs) > MOST_CURVES else "",
    ]
    return " ".join(filter(None, sentences))


def curves_of(label: str, rounds: list[dict[str, Any]], index: int, several: bool) -> list[Series]:
    """The test curve and, where there is one, the validation curve."""
    colour = palette.SERIES[index % len(palette.SERIES)]
    turn = index // len(palette.SERIES)
    dash, marker = DASHES[turn % len(DASHES)], MARKERS[turn // len(DASHES)]
    kinds = (
        ("test_accuracy", label, False),
        ("validation_accuracy", f"{label}, validation" if several else "validation", True),
    )
    points = {kind: [(row["round"], row[kind]) for row in rounds if row[kind] is not None] for kind, *_ in kinds}
    return [
        Series(text, colour, *map(list, zip(*points[kind], strict=True)), dash, thin, marker)
        for kind, text, thin in kinds
        if points[kind]
    ]


def baselines(runs: Sequence[Run], room: int) -> list[Series]:
    """What each run is compared with: a line for each method that the rounds did not train.

    A baseline on which all runs agree (to a tenth of a point) is drawn once and grey. One that is a run's own takes
    the run's colour, as long as there is room for the labels.
    """
    shared, own = {}, []
    for index, run in enumerate(runs):
        for row in table.method_rows(run.summary):
            curved = row.name == run.method or (len(runs) == 1 and row.name in run.compared)
            if curved or row.test_accuracy is None:
                continue
            figures = [units.percent(same_method(other, row.name)) for other in runs]
            if len(set(figures)) == 1:
                shared[row.name] = Series(row.label, palette.MUTED, [], [row.test_accuracy], BASELINE)
            else:
                colour = palette.SERIES[index % len(palette.SERIES)]
                own.append(Series(f"{row.label}, {run.name}", colour, [], [row.test_accuracy], BASELINE))
    return [*shared.values(), *(own if len(shared) + len(own) <= room else [])]


def same_method(run: Run, name: str) -> float | None:
    return units.number(run.summary["methods"].get(name, {}), "test_accuracy")


def draw(width: float, curves: Sequence[Series], lines: Sequence[Series]) -> Figure:
    size, most = (9.5, 40) if width > 6 else (8.5, 22)  # points, letters
    bold = [series for series in curves if not series.thin]
    labelled = [*(curves if len(bold) <= 1 else bold), *lines]
    labels = [f"{shortened(series.label, most)} {units.percent(series.y[-1])}" for series in labelled]
    height = max(3.7, (len(labels) * LINE_HEIGHT + 60) / 72)
    # Letters take a little less than this share of an em in any common font.
    ems = max(len(label) * (0.6 if series in bold else 0.54) for label, series in zip(labels, labelled, strict=True))
    right = (ems * size + 20) / 72 / width
    left, bottom, top = 0.55 / width, 0.5 / height, 0.12 / height
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((left, bottom, 1 - left - right, 1 - bottom - top))
    for series in lines:
        axes.axhline(series.y[0], color=series.colour, linewidth=1, linestyle=series.dash)
    for series in curves:
        look = {"color": series.colour, "clip_on": False}
        axes.plot(series.x, series.y, series.dash, linewidth=0.9 if series.thin else 2.4, **look)
        axes.plot(series.x[-1], series.y[-1], series.marker, markersize=3 if series.thin else 5, **look)
    set_scales(axes, curves, lines, most_ticks=8 if width > 6 else 4)
    write_labels(axes, labelled, labels, size)
    return figure


def set_scales(axes: Axes, curves: Sequence[Series], lines: Sequence[Series], most_ticks: int) -> None:
    """Rounds along, per cent up; a light grid for the eye."""
    heights = [y for series in (*curves, *lines) for y in series.y]
    low, high = min(heights), max(heights)
    margin = max(0.05 * (high - low), 0.001)
    axes.set_ylim(max(0, low - margin), min(1, high + margin) if high < 1 else 1 + margin / 3)
    axes.set_xlim(min(series.x[0] for series in curves), max(max(series.x[-1] for series in curves), 1))
    axes.xaxis.set_major_locator(MaxNLocator(most_ticks, integer=True, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.4g}%"))
    axes.grid(axis="y", color=palette.LINE, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    axes.tick_params(left=False)
    axes.set_xlabel("round")


def write_labels(axes: Axes, everything: Sequence[Series], labels: Sequence[str], size: float) -> None:
    """Labels beside the right edge, as near to the ends of their lines as they fit, with a leader to each."""
    low, high = axes.get_ylim()
    height = axes.get_position().height * axes.figure.get_figheight() * 72
    ends = np.array([series.y[-1] for series in everything])
    places = spread((ends - low) / (high - low) * height, LINE_HEIGHT, 0, height) / height * (high - low) + low
    inch = 1 / (axes.get_position().width * axes.figure.get_figwidth())
    beside = axes.get_yaxis_transform()
    for series, label, end, place in zip(everything, labels, ends, places, strict=True):
        leader = [1 + 0.06 * inch, 1 + 0.2 * inch]
        drawn = {"color": series.colour, "linestyle": series.dash if series.x else "-", "clip_on": False}
        axes.plot(leader, [end, place], linewidth=0.7, transform=beside, **drawn)
        weight = "bold" if series.x and not series.thin else "normal"
        axes.text(1 + 0.25 * inch, place, label, color=series.colour, weight=weight, size=size,
                  va="center_baseline", transform=beside)  # fmt: skip


def spread(places: np.ndarray, gap: float, low: float, high: float) -> np.ndarray:
    """Moves ``places`` [n] apart to at least ``gap``, within low and high, as little as possible (least squares)."""
    order = np.argsort(places, kind="stable")
    steps = gap * np.arange(len(places))
    # With the steps taken off, "at least a gap apart" reads "not decreasing": pool neighbours that are out of order.
    pools: list[list[float]] = []
    for place in places[order] - steps:
        pools.append([place])
        while len(pools) > 1 and np.mean(pools[-2]) > np.mean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    settled = np.concatenate([np.full(len(pool), np.mean(pool)) for pool in pools])
    moved = np.empty_like(settled)
    moved[order] = np.clip(settled, low, max(low, high - steps[-1])) + steps
    return moved
