"""report.html: one file that opens from disk, without a network, a script or a font of its own."""

import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import jinja2

from cachefl_jax import files
from cachefl_jax.report import curve, holdings, palette, pictures, table, units, words
from cachefl_jax.report.workdir import Run, read_runs


def write_report(workdirs: Sequence[pathlib.Path]) -> pathlib.Path:
    """Writes report.html from what one or more runs left in their workdirs.

    The same workdirs give the same bytes. With several, the runs share the plot and the table, and each has its own
    section below.

    Args:
        workdirs: directories as ``experiments.run`` leaves them. The page goes into the first.

    Returns:
        The path of report.html.

    Raises:
        UsageError: no workdir is given, or a file in one is missing, corrupt or at odds with another.
    """
    page = render(read_runs(workdirs))
    path = pathlib.Path(workdirs[0]) / "report.html"
    files.write_whole(path, lambda file: file.write(page.encode()))
    return path


@functools.cache
def templates() -> jinja2.Environment:
    """What the pages are made from; a value that is missing is an error, and every text is escaped."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("cachefl_jax.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(runs: Sequence[Run]) -> str:
    """The page of ``runs`` as HTML."""
    return (
        templates()
        .get_template("page.html.jinja")
        .render(
            theme=palette.THEME,
            several=len(runs) > 1,
            accuracy=curve.accuracy_chart(runs),
            title=words.title(runs),
            columns=columns(runs),
            differences=differences(runs),
            runs=[section(index, run) for index, run in enumerate(runs)],
        )
    )


def columns(runs: Sequence[Run]) -> list[table.Column]:
    """The columns of the table of methods in which at least one run has something to say; the accuracy always."""
    rows = [row for run in runs for row in table.method_rows(run.summary)]
    first, *others = table.COLUMNS
    return [first, *(column for column in others if any(column.cell(row) != units.EMPTY for row in rows))]


def section(index: int, run: Run) -> dict[str, Any]:
    """Everything that the page says of one run."""
    dataset = run.summary["dataset"]
    sheet = pictures.contact_sheet(run)
    return {
        "name": run.name,
        "colour": palette.SERIES_NAMES[index % len(palette.SERIES_NAMES)],
        "dataset": dataset,
        "rows": table.method_rows(run.summary),
        "main": words.main_row(run),
        "headline": words.headline(run),
        "gain": words.gain(run),
        "comparisons": words.comparisons(run),
        "flops": units.readable_flops(words.main_row(run).flops),
        "seconds": units.readable_seconds(words.main_row(run).seconds),
        "cohort": cohort(run),
        "traffic": words.traffic(run),
        "bars": words.bars(run),
        "saving": words.saving(run),
        "model": words.model_name(run),
        "doubt": words.doubt(run),
        "server": words.server_images(run),
        "work": words.site_work(run),
        "validation": int(units.number(dataset, "validation") or 0),
        "holdings": holdings.holdings_chart(run, f"holdings-{index}"),
        "pooled": holdings.is_pooled(run.cells),
        "facts": holdings.partition_facts(run.cells, run.card),
        "pictures": sheet,
        "most_pictures": pictures.most_images(sheet),
        "classes": len(run.class_names),
        "notes": run.summary.get("notes") or [],
        "config": flat(run.config),
    }


def cohort(run: Run) -> str:
    """Clients a round: one number, or the range where rounds differ."""
    sizes = sorted({round(row["cohort"]) for row in run.rounds if row["round"] > 0 and row["cohort"] is not None})
    return " to ".join(f"{size:,}" for size in dict.fromkeys((sizes[0], sizes[-1]))) if sizes else units.EMPTY


def flat(config: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """A nested config by dotted names, in its own order: {"data": {"name": "digits"}} -> {"data.name": "digits"}."""
    fields: dict[str, str] = {}
    for name, value in config.items():
        if isinstance(value, dict):
            fields |= flat(value, f"{prefix}{name}.")
        else:
            fields[f"{prefix}{name}"] = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return fields


def differences(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """The config fields on which the runs are not all alike, with each run's value."""
    configs = [flat(run.config) for run in runs]
    names = dict.fromkeys(name for config in configs for name in config)
    values = {name: [config.get(name, units.EMPTY) for config in configs] for name in names}
    return [(name, row) for name, row in values.items() if len(set(row)) > 1]
