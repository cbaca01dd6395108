"""The figures of poc.html."""

import textwrap
from collections.abc import Callable, Mapping
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cachefl_jax.poc.verdict import Z
from cachefl_jax.report import palette, units

LINE = 0.3  # inches from one bar to the next
LETTERS = {palette.WIDE: 44, palette.NARROW: 20}  # of a line of a label, by the figure's width

Decision = Mapping[str, Any]


def drawn(decision: Decision) -> dict[str, Markup | None]:
    """Every figure by name; None where it has nothing to show."""
    found: dict[str, tuple[Callable[[Decision, float], Figure], str] | None] = {
        "accuracy": (accuracies, told(decision)),
        "rounds": (rounds, "Accuracy over the rounds.") if has_rounds(decision) else None,
        "shots": (shots, "Accuracy over images a class and site.") if decision.get("shots") else None,
        "bytes": (moved, "Bytes of all sites in the whole run.") if decision.get("bytes") else None,
    }
    return {
        name: each
        and palette.chart(f"poc-{name}", each[1], lambda width, draw=each[0]: draw(decision, width))
        for name, each in found.items()
    }  # fmt: skip


def told(decision: Decision) -> str:
    """The figure of accuracies in words."""
    known = [row for row in decision["rows"].values() if row.get("test_accuracy") is not None]
    return "Test accuracy. " + "; ".join(f"{row['label']}: {units.percent(row['test_accuracy'])}" for row in known)


def has_rounds(decision: Decision) -> bool:
    return len((decision.get("rounds") or {}).get("evaluated") or ()) > 1


def axes_of(width: float, height: float):
    """A figure and its axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def name_bars(axes, labels: list[str], width: float) -> None:
    """Labels of horizontal bars, the first at the bottom."""
    axes.set_yticks(range(len(labels)), wrapped(labels, width), color=palette.INK)
    axes.set_ylim(-0.6, len(labels) - 0.4)
    axes.tick_params(length=0)


def wrapped(labels: list[str], width: float) -> list[str]:
    """In two lines at most, so that what they differ in at their ends is read."""
    letters = LETTERS[width]
    broken = [textwrap.wrap(each, letters) or [""] for each in labels]
    return ["\n".join((*lines[:1], *(palette.shortened(" ".join(lines[1:]), letters),) * (len(lines) > 1)))
            for lines in broken]  # fmt: skip


def height(labels: list[str], width: float) -> float:
    """Of so many bars, inches."""
    return (1.4 if any("\n" in each for each in wrapped(labels, width)) else 1) * LINE * len(labels)


def accuracies(decision: Decision, width: float) -> Figure:
    """Test accuracy of each row with its 95% interval, the best above."""
    rows = [(name, row) for name, row in decision["rows"].items() if row.get("test_accuracy") is not None]
    bars = [(row["label"], row["test_accuracy"], row.get("error") or 0, name == decision["recommended"])
            for name, row in rows]  # fmt: skip
    current = decision.get("current")
    if current and current.get("test_accuracy") is not None:
        bars.append((current.get("label", "your model of today"), current["test_accuracy"], 0, False))
    bars.sort(key=lambda bar: bar[1])
    figure, axes = axes_of(width, 0.6 + height([label for label, *_ in bars], width))
    for at, (_, share, error, main) in enumerate(bars):
        colour = palette.SERIES[0] if main else palette.MUTED
        whisker = [[100 * min(Z * error, share)], [100 * min(Z * error, 1 - share)]]
        axes.errorbar(100 * share, at, xerr=whisker, fmt="o", ms=6, lw=2, capsize=3, color=colour)
    name_bars(axes, [label for label, *_ in bars], width)
    axes.set_xlabel("test accuracy (%)")
    axes.grid(axis="x", lw=0.5, color=palette.LINE)
    return figure


def rounds(decision: Decision, width: float) -> Figure:
    """Validation and test accuracy over the rounds, and which are enough."""
    found = decision["rounds"]
    _, axes = axes_of(width, 2.9)
    for name, colour, style in (("validation", palette.SERIES[0], "-"), ("test", palette.SERIES[1], "--")):
        values = found.get(name) or []
        points = [(at, 100 * each) for at, each in zip(found["evaluated"], values, strict=False) if each is not None]
        if points:
            axes.plot(*zip(*points, strict=True), style, color=colour, lw=2, label=name)
    if found.get("enough") is not None and found.get("settled", True):
        axes.axvline(found["enough"], color=palette.MUTED, lw=1, ls=":", label=f"enough: {found['enough']}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return labelled(axes, "round", "accuracy (%)")


def labelled(axes: Axes, across: str, up: str) -> Figure:
    """The figure of these axes, with what they mean."""
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.grid(axis="y", lw=0.5, color=palette.LINE)
    axes.legend(frameon=False, fontsize="small")
    return axes.figure


def shots(decision: Decision, width: float) -> Figure:
    """Accuracy over labelled images a class and site, with one standard deviation over seeds if there are any."""
    found = decision["shots"]
    _, axes = axes_of(width, 2.9)
    for number, (name, means) in enumerate(found["rows"].items()):
        spread = (found.get("std") or {}).get(name) or [0] * len(means)
        known = zip(found["shots"], means, spread, strict=True)
        points = [(count, 100 * mean, 100 * (std or 0)) for count, mean, std in known if mean is not None]
        if not points:
            continue
        counts, heights, whiskers = zip(*points, strict=True)
        label = (decision["rows"].get(name) or {}).get("label", name)
        colour = palette.SERIES[number % len(palette.SERIES)]
        axes.errorbar(counts, heights, yerr=whiskers, fmt="-o", ms=4, lw=2, capsize=2, color=colour, label=label)
    axes.set_xscale("log", base=2)
    axes.set_xticks(found["shots"], [str(count) for count in found["shots"]])
    return labelled(axes, "training images a class and site", "test accuracy (%)")


def moved(decision: Decision, width: float) -> Figure:
    """Bytes of all sites, both ways, in the whole run: the most above, on a logarithmic axis."""
    ways = sorted(decision["bytes"]["ways"], key=lambda way: way["all"])
    figure, axes = axes_of(width, 0.7 + height([way["label"] for way in ways], width))
    colours = [palette.SERIES[0] if way["name"] == decision["recommended"] else palette.MUTED for way in ways]
    bars = axes.barh(range(len(ways)), [way["all"] for way in ways], color=colours, height=0.6)
    axes.bar_label(bars, [units.readable_bytes(way["all"]) for way in ways], padding=4, color=palette.INK, fontsize=9)
    name_bars(axes, [way["label"] for way in ways], width)
    axes.set_xscale("log", base=10)
    axes.set_xlim(min(way["all"] for way in ways) / 4, max(way["all"] for way in ways) * 30)
    axes.set_xticks([], minor=True)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.set_xlabel("bytes of all sites (logarithmic)")
    return figure
