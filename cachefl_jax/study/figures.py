"""A study's figures, in the size of a paper's column: accuracy with its interval, and accuracy against bytes."""

import io
import pathlib
import warnings
from collections.abc import Callable

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from scipy.stats import t as student

from cachefl_jax.report import palette, units
from cachefl_jax.storage.files import write_whole
from cachefl_jax.study.results import Standing, Table

COLUMN, WIDE = 3.4, 7.0  # inches: a column of a two-column page, and both
LINE = 0.19  # inches from one row to the next
KINDS = {"pdf": {"CreationDate": None, "Producer": None, "Creator": None}, "svg": palette.NO_METADATA}
STYLE = {**palette.STYLE, "font.size": 7.5, "pdf.fonttype": 42, "axes.linewidth": 0.6, "text.color": "black"}


def interval(row: Standing) -> float:
    """Half of the 95% interval of a row's mean over seeds (Student's t), in percent; 0 for one seed."""
    count = len(row.sample.accuracy)
    return 0.0 if count < 2 else float(100 * student.ppf(0.975, count - 1) * row.std / np.sqrt(count))


def whiskers(row: Standing) -> list[list[float]]:
    """What the interval has below and above the mean, [[below], [above]]; no accuracy is below 0 or above 100%."""
    return [[min(interval(row), 100 * row.mean)], [min(interval(row), 100 * (1 - row.mean))]]


def accuracies(table: Table, own: str, width: float = COLUMN) -> Figure:
    """Test accuracy of each row, the best above, with its interval over seeds."""
    rows = sorted((row for row in table.rows if row.mean is not None), key=lambda row: row.mean)
    figure = Figure(figsize=(width, 0.6 + LINE * len(rows)), layout="constrained")
    axes = figure.subplots()
    for at, row in enumerate(rows):
        colour = palette.SERIES[0] if row.name == own else palette.MUTED
        axes.errorbar(100 * row.mean, at, xerr=whiskers(row), fmt="o", ms=3.5, lw=1, capsize=2, color=colour)
    axes.set_yticks(range(len(rows)), [row.label for row in rows], color="black")
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlabel("test accuracy (%)")
    axes.grid(axis="x", lw=0.4, color=palette.LINE)
    return figure


def against_bytes(table: Table, own: str, width: float = COLUMN) -> Figure:
    """Test accuracy against all bytes of a run; rows that send nothing, or whose bytes are not counted, as lines."""
    figure = Figure(figsize=(width, min(0.75 * width, 4.5)), layout="constrained")
    axes = figure.subplots()
    rows = [row for row in table.rows if row.mean is not None]
    sending = sorted((row for row in rows if row.average("total_bytes")), key=lambda row: -row.mean)
    for row in sending:
        colour = palette.SERIES[0] if row.name == own else palette.MUTED
        place = row.average("total_bytes"), 100 * row.mean
        axes.errorbar(*place, yerr=whiskers(row), fmt="o", ms=3.5, lw=1, capsize=2, color=colour)
    for row in (row for row in rows if not row.average("total_bytes")):
        axes.axhline(100 * row.mean, lw=0.7, ls="--", color=palette.LINE)
        axes.annotate(
            row.label, (1, 100 * row.mean), xycoords=("axes fraction", "data"), ha="right", va="bottom",
            fontsize="small", color=palette.MUTED,
        )  # fmt: skip
    if sending:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: units.readable_bytes(round(value))))
        axes.xaxis.set_minor_formatter(lambda value, _: "")
        axes.margins(x=0.15, y=0.12)
        label_points(axes, sending)
    axes.set_xlabel("bytes of a run, everybody's")
    axes.set_ylabel("test accuracy (%)")
    return figure


def label_points(axes: Axes, rows: list[Standing]) -> None:
    """Names beside points, from above down; one that would cover another moves below it."""
    axes.figure.draw_without_rendering()
    height = 1.1 * matplotlib.rcParams["font.size"] * axes.figure.dpi / 72
    taken: list[tuple[float, float]] = []
    for row in rows:
        x, y = axes.transData.transform((row.average("total_bytes"), 100 * row.mean))
        for other_x, other_y in sorted(taken, key=lambda each: -each[1]):
            if abs(other_x - x) < 1.1 * axes.figure.dpi and abs(other_y - y) < height:
                y = other_y - height
        taken.append((x, y))
        place = axes.transData.inverted().transform((x + 4, y))
        axes.text(*place, row.label, fontsize="small", va="center", color="black")


def write_figures(folder: pathlib.Path, tables: list[Table], own: str) -> None:
    """accuracy.pdf, bytes.pdf and the same as SVG; of several settings each with its number behind the name."""
    for number, table in enumerate(tables, start=1):
        if not any(row.mean is not None for row in table.rows):
            continue
        for name, draw in (("accuracy", accuracies), ("bytes", against_bytes)):
            file = f"{name}_{number}" if len(tables) > 1 else name
            for kind, metadata in KINDS.items():
                content = rendered(lambda draw=draw, table=table: draw(table, own), kind, metadata)
                write_whole(folder / f"{file}.{kind}", lambda out, content=content: out.write(content))


def rendered(draw: Callable[[], Figure], kind: str, metadata: dict) -> bytes:
    """A figure as a file's bytes; the same figure gives the same."""
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "study"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        file = io.BytesIO()
        draw().savefig(file, format=kind, metadata=metadata)
    return file.getvalue()
