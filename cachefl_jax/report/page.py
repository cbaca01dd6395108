"""report.html: one file that opens from disk, without a network, a script or a font of its own."""

import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import jinja2

from cachefl_jax.errors import UsageError
from cachefl_jax.report import (
    captions,
    clock,
    curve,
    drift,
    holdings,
    palette,
    pictures,
    quality,
    rivals,
    statements,
    table,
    traffic,
    units,
    words,
)
from cachefl_jax.report.comparison import comparison, flat
from cachefl_jax.report.workdir import Run, read_runs
from cachefl_jax.storage import files


def write_report(workdirs: Sequence[pathlib.Path], output: pathlib.Path | None = None) -> pathlib.Path:
    """Writes a page from what one or more runs left in their workdirs; the same workdirs give the same bytes.

    Args:
        workdirs: directories as runs leave them.
        output: where the page goes: an .html file, or a folder that gets report.html. None, for one run alone, is the
            run's own folder.

    Returns:
        The path of the page.

    Raises UsageError: no workdir is given; a file in one is missing, corrupt or at odds with another; several runs have
    no output, or one that is a run's own page."""
    path = place(workdirs, output)
    write_page(path, render(read_runs(workdirs)))
    return path


def place(workdirs: Sequence[pathlib.Path], output: pathlib.Path | None) -> pathlib.Path:
    """The file that the page of these workdirs goes to (see :func:`write_report`)."""
    if output is None:
        if len(workdirs) > 1:
            allowed = "an .html file or a folder, for the page of several runs"
            raise UsageError("--output", "nothing", allowed, "add --output=comparison.html")
        return pathlib.Path(workdirs[0]) / "report.html" if workdirs else pathlib.Path()
    path = pathlib.Path(output)
    if path.is_dir() or path.suffix.lower() not in (".html", ".htm"):
        if path.is_file():
            raise UsageError("--output", str(path), "an .html file or a folder", "name another")
        path = path / "report.html"
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir():
        raise UsageError("--output", f"{path} ({above} is a file)", "a place in a folder", "name another")
    own = any((path.parent / name).is_file() for name in ("config.json", "sweep.json"))
    another = len(workdirs) != 1 or path.parent.resolve() != pathlib.Path(workdirs[0]).resolve()
    if another and own and path.name == "report.html":
        allowed = "a place that is no run's own page"
        raise UsageError("--output", str(path), allowed, "add --output=comparison.html")
    return path


def write_page(path: pathlib.Path, page: str) -> None:
    """Writes the page whole. A name of a folder that is no UTF-8 shows its odd bytes as text."""
    files.write_whole(path, lambda file: file.write(page.encode("utf-8", "backslashreplace")))


@functools.cache
def templates() -> jinja2.Environment:
    """What the pages are made from; a value that is missing is an error, and every text is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cachefl_jax.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["sentence"] = units.sentence
    return environment


def fill(template: str, **values: Any) -> str:
    """A page by its template."""
    return templates().get_template(f"{template}.html.jinja").render(theme=palette.THEME, **values)


def render(runs: Sequence[Run]) -> str:
    """The page of one run, or of several side by side, as HTML."""
    shared = {
        "name": ", ".join(run.name for run in runs),
        "accuracy": {"chart": curve.accuracy_chart(runs), "caption": curve.caption(runs)},
        "title": words.title(runs),
        "columns": columns(runs),
        "legend": legend(runs),
        "measured": statements.together(runs, [statements.measured(run) for run in runs]),
        "privacy": statements.together(runs, [statements.privacy(run) for run in runs]),
    }
    if len(runs) == 1:
        return fill("page", run=section(runs[0]), lead=" ".join(words.sentences(runs[0])[1:]), **shared)
    return fill("comparison", **comparison(runs), quality=quality.shown(runs), **shared)


def columns(runs: Sequence[Run]) -> list[table.Column]:
    """The columns of the table of methods in which at least one run has something to say; the accuracy always."""
    rows = [row for run in runs for row in table.method_rows(run.summary)]
    first, *others = table.COLUMNS
    return [first, *(column for column in others if any(column.cell(row) != units.EMPTY for row in rows))]


def legend(runs: Sequence[Run]) -> str:
    """What dashes and ranges in the table of methods mean, where there are any."""
    rows = [row for run in runs for row in table.method_rows(run.summary)]
    dashes = any(column.cell(row) == units.EMPTY for column in columns(runs) for row in rows)
    ranges = any(None not in (row.lowest, row.highest) for row in rows)
    sentences = [
        *(["A dash stands for what was not measured or does not apply."] if dashes else []),
        *(["A range below an accuracy: the lowest and the highest over the clients."] if ranges else []),
    ]
    return " ".join(sentences)


def section(run: Run) -> dict[str, Any]:
    """Everything that the page says of its one run."""
    row = table.main_row(run)
    return {
        "name": run.name,
        "colour": palette.run_colour(0),
        "dataset": run.summary["dataset"],
        "rows": table.method_rows(run.summary),
        "main": row,
        "tested": words.tested(run),
        "untrained": rivals.untrained(run),
        "gain": words.gain(run),
        "comparisons": rivals.comparisons(run),
        "flops": units.readable_flops(row.flops),
        "seconds": units.readable_seconds(row.seconds),
        "cohort": cohort(run),
        "traffic": traffic.traffic(run),
        "bars": traffic.bars(run),
        "saving": traffic.saving(run),
        "rival_bytes": traffic.against_rival(run),
        "model": traffic.model_name(run),
        "server": captions.server_images(run),
        "work": traffic.site_work(run),
        "travelled": captions.travelled(run),
        "drift": drift.shown(run),
        "clock": clock.shown(run),
        "quality": quality.section(run),
        "holdings": holdings.shown(run, "holdings"),
        "sheet": pictures.shown(run),
        "config": flat(run.config).items(),
    }


def cohort(run: Run) -> str:
    """Clients a round: "20 clients", or the range where rounds differ; "" where there were no rounds."""
    sizes = sorted({row["cohort"] for row in run.rounds if row["round"] > 0})
    if not sizes:
        return ""
    plural = "client" if sizes == [1] else "clients"
    return f"{' to '.join(f'{size:,}' for size in dict.fromkeys((sizes[0], sizes[-1])))} {plural}"
