"""A sweep's page: its points by validation accuracy, those of one setting beside each other."""

import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cachefl_jax.report import table, units, words
from cachefl_jax.report.page import fill, place, write_page
from cachefl_jax.storage.run_files import TRAINED


class Sweep(NamedTuple):
    """What a sweep has left so far.

    Attributes:
        name: of its folder.
        dataset: titles of its points' data, each once.
        points: how many it has, done or not.
        settings: the lines of results.jsonl that are alternatives, by setting and by point; both in words.
    """

    name: str
    dataset: str
    points: int
    settings: Mapping[str, Mapping[str, Sequence[dict[str, Any]]]]


class Point(NamedTuple):
    """A point's line of the table: the mean over its seeds. None where it has no accuracy."""

    name: str
    runs: int
    validation: float | None
    test: float | None
    worst: float | None  # test accuracy of the worst tenth of the clients
    spread: str  # of validation accuracy over the seeds; "" for one
    note: str


def write_sweep_report(workdir: pathlib.Path, sweep: Sweep, output: pathlib.Path | None = None) -> pathlib.Path:
    """Writes the page of a sweep, into its folder unless `output` says where; returns its path.

    Raises UsageError: `output` is a file that is no page."""
    path = place([workdir], output)
    write_page(path, render_sweep(sweep))
    return path


def render_sweep(sweep: Sweep) -> str:
    """The page of a sweep as HTML."""
    settings = [{"name": setting, "points": ranked(points)} for setting, points in sweep.settings.items()]
    lines = [row for points in sweep.settings.values() for rows in points.values() for row in rows]
    commands = [(row["point"], row.get("command", "")) for row in sorted(lines, key=lambda row: row["point"])]
    return fill(
        "sweep", name=sweep.name, sweep=sweep, settings=settings, title=title(sweep, settings), done=len(lines),
        told=told(sweep, settings, len(lines)), commands=commands, percent=units.percent,
        method=words.listed(list(dict.fromkeys(table.label(name_of(row), own(row)) for row in lines))),
    )  # fmt: skip


def ranked(points: Mapping[str, Sequence[dict[str, Any]]]) -> list[Point]:
    """Best validation accuracy first; those without one after them, in the sweep's order."""
    every = map(point_of, points, points.values())
    return sorted(every, key=lambda point: (point.validation is None, -(point.validation or 0)))


def point_of(name: str, rows: Sequence[dict[str, Any]]) -> Point:
    entries = [own(row) for row in rows]
    validation, test = (mean_of(entries, kind) for kind in ("validation_accuracy", "test_accuracy"))
    scores = [entry["validation_accuracy"] for entry in entries]
    spread = ""
    if validation is not None and len(scores) > 1:
        spread = f"{100 * min(scores):.1f} to {100 * max(scores):.1f}"
    lost = sum(bool(row.get("diverged")) for row in rows)
    note = "" if not lost else "diverged" if lost == len(rows) else f"{lost} of {len(rows)} diverged"
    worst = mean_of([entry.get("clients") or {"worst_tenth": None} for entry in entries], "worst_tenth")
    return Point(name, len(rows), validation, test, worst, spread, note)


def own(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The entry of the method that a point trained."""
    return row["methods"][name_of(row)]


def name_of(row: Mapping[str, Any]) -> str:
    """Its name in there, which a line of an older version does not say."""
    return row.get("method", TRAINED)


def mean_of(entries: Sequence[Mapping[str, Any]], kind: str) -> float | None:
    """The mean of an accuracy; None where one of them is missing."""
    values = [entry[kind] for entry in entries]
    return None if None in values else statistics.mean(values)


def title(sweep: Sweep, settings: Sequence[Mapping[str, Any]]) -> str:
    """The headline: the best point where there is one to choose."""
    scored = [point for setting in settings for point in setting["points"] if point.validation is not None]
    done = sum(len(rows) for points in sweep.settings.values() for rows in points.values())
    if not done:
        return f"A sweep of {sweep.points:,} points: none is done yet."
    if not scored:
        return f"A sweep of {sweep.points:,} points: none has a validation accuracy, so nothing ranks them."
    if len(settings) > 1:
        return f"A sweep of {sweep.points:,} points in {len(settings)} settings, each ranked by validation accuracy."
    best, *others = scored
    equal = [point for point in others if point.validation == best.validation]
    also = (
        f"; {words.listed([point.name for point in equal])} {'is' if len(equal) == 1 else 'are'} equal" if equal else ""
    )
    return f"Best of {len(scored):,} by validation accuracy: {best.name}, with {units.percent(best.validation)}{also}."


def told(sweep: Sweep, settings: Sequence[Mapping[str, Any]], done: int) -> list[str]:
    """What the figures are, each sentence where it is true."""
    points = [point for setting in settings for point in setting["points"]]
    scored = [point for point in points if point.validation is not None]
    return [
        *([f"{done:,} of {sweep.points:,} points are done: the sweep's own command again does the rest."]
          if done < sweep.points else []),
        *(["Points are ranked by validation accuracy alone; the best of many tends to look better than it is."]
          if len(scored) > 1 else []),
        *(["Test accuracy is told, and ranks nothing: to choose by it is to lose it as a test."]
          if any(point.test is not None for point in points) else []),
        *(["Figures are means over the runs of a point, which differ in their seed; below, the lowest and the highest."]
          if any(point.spread for point in points) else []),
        *(["Points of different settings (the data, who holds what, clients a round, attacks) are no alternatives."]
          if len(settings) > 1 else []),
    ]  # fmt: skip
