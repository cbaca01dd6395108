"""The accelerator's readings as a Markdown table and as a picture."""

import io
import pathlib
from collections.abc import Sequence

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from cachefl_jax.report import palette
from cachefl_jax.report.units import EMPTY, three_digits
from cachefl_jax.storage.files import write_whole
from experiments.benchmarks.tables import markdown

NAMES = ("section", "what", "workload", "model", "optimizer", "dtype", "precision", "clients", "cohort",
         "epochs", "by")  # fmt: skip
FIGURES = ("ms", "best_ms", "start_s", "tflops", "gb_per_s", "images_per_s", "us", "first_s", "second_s", "off")
OURS = "cachefl_jax"


def label(line: dict) -> str:
    return ", ".join(f"{name} {line[name]}" if isinstance(line[name], int) else line[name]
                     for name in NAMES if line.get(name))  # fmt: skip


def text(lines: Sequence[dict]) -> str:
    """A row a reading; what failed or was left out is said in its place."""
    rows = [["reading", *FIGURES]]
    for line in lines:
        failed = line.get("error") or line.get("skipped")
        if failed:
            rows.append([f"{label(line)}: {failed[:60]}", *[EMPTY] * len(FIGURES)])
        elif any(figure in line for figure in FIGURES):
            rows.append([label(line), *(figure_of(line, figure) for figure in FIGURES)])
    return markdown(rows)


def figure_of(line: dict, name: str) -> str:
    value = line.get(name)
    if value is None:
        return EMPTY
    return f"{value:.1e}" if name == "off" else three_digits(value)


def write(path: pathlib.Path, lines: Sequence[dict]) -> None:
    """Bars of milliseconds a round, ours and PyTorch's, as a PNG with a white ground."""
    bars = [line for line in lines if line["section"] in ("engine", "skew", "scale") and "ms" in line]
    with rc_context({**palette.STYLE, "font.size": 9}):
        figure = Figure(figsize=(palette.WIDE, 0.24 * len(bars) + 1.0), layout="constrained")
        axes = figure.add_subplot()
        for place, line in enumerate(bars):
            colour = palette.BLUE if line["by"].startswith(OURS) else palette.MUTED
            bar = axes.barh(place, line["ms"], height=0.72, color=colour)
            axes.bar_label(bar, [f"{three_digits(line['ms'])} ms"], padding=4)
        axes.set_yticks(range(len(bars)), [label(line) for line in bars])
        axes.invert_yaxis()
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} ms"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.margins(x=0.15)
        axes.set_xlabel("a round, median, logarithmic")
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=150, facecolor=palette.PAPER)
    write_whole(path, lambda stream: stream.write(file.getvalue()))
