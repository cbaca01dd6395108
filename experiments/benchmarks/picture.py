"""Seconds a round as bars, a panel a job, for the README."""

import io
import pathlib

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from cachefl_jax.report import palette
from cachefl_jax.report.units import readable_seconds, three_digits
from cachefl_jax.storage.files import write_whole
from experiments.benchmarks.entrants import LABELS

BAR, HEAD, FOOT = 0.27, 0.42, 0.55  # inches: a bar, above a panel, below the last one
LEFT, RIGHT = 2.1, 1.75  # inches: names, figures
OPTIMIZERS = {"sgd": "SGD", "adamw": "AdamW"}


def write(path: pathlib.Path, results: dict) -> None:
    """The picture as a PNG with a white ground, so that it also shows on a dark page."""
    with rc_context({**palette.STYLE, "font.size": 10}):
        file = io.BytesIO()
        draw(results["jobs"]).savefig(file, format="png", dpi=200, facecolor=palette.PAPER)
    write_whole(path, lambda stream: stream.write(file.getvalue()))


def draw(jobs: list[dict]) -> Figure:
    """Panels one below the other on one axis of seconds, so that workloads compare too."""
    heights = [BAR * len(job["entrants"]) for job in jobs]
    height = sum(heights) + HEAD * len(jobs) + FOOT
    figure = Figure(figsize=(palette.WIDE, height))
    medians = [row["median_s"] for job in jobs for row in job["entrants"].values()]
    low, high = min(medians) / 3, max(medians) * 1.15
    top = height
    for number, (job, tall) in enumerate(zip(jobs, heights, strict=True)):
        top -= HEAD + tall
        place = (LEFT / palette.WIDE, top / height, 1 - (LEFT + RIGHT) / palette.WIDE, tall / height)
        axes = figure.add_axes(place)
        draw_job(axes, job)
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        axes.xaxis.set_major_locator(LogLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
        axes.tick_params(which="both", length=0, labelbottom=number == len(jobs) - 1)
    axes.set_xlabel("a round over all clients, median (logarithmic); how many times as long as cachefl_jax")
    return figure


def draw_job(axes: Axes, job: dict) -> None:
    rows = job["entrants"]
    box = {"facecolor": palette.PAPER, "edgecolor": "none", "pad": 1}
    for place, (name, row) in enumerate(rows.items()):
        ours = name == "ours"
        bar = axes.barh(place, row["median_s"], height=0.72, color=palette.BLUE if ours else palette.MUTED)
        told = readable_seconds(row["median_s"])
        told += "" if ours else f"   {three_digits(row['times_ours_by_median'])}×"
        style = {"color": palette.INK, "weight": "bold" if ours else "normal", "bbox": box}
        axes.bar_label(bar, [told], padding=5, annotation_clip=False, **style)
    axes.set_yticks(range(len(rows)), [LABELS[name] for name in rows], color=palette.INK)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_title(f"{job['workload']}, {OPTIMIZERS[job['optimizer']]}", loc="left", size=10, color=palette.MUTED)
    axes.grid(axis="x", color=palette.LINE, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines["bottom"].set_visible(False)


def tick(value: float) -> str:
    return f"{value:g} s" if value >= 1 else f"{1000 * value:g} ms"
