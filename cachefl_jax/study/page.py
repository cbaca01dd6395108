"""study.html, and all other files that a study leaves beside its runs."""

import pathlib

from markupsafe import Markup

from cachefl_jax.report import palette
from cachefl_jax.report.page import fill, write_page
from cachefl_jax.storage.checked_json import COUNT, Fields, check, read
from cachefl_jax.storage.files import write_json, write_whole
from cachefl_jax.study import figures, tables, words
from cachefl_jax.study.folder import Lines
from cachefl_jax.study.plan import Study
from cachefl_jax.study.results import Table, tables_of

DONE = "results.json"
FILES = ("results.csv", "results.md", "results.tex", "chosen.json", "study.html", DONE)


def write_results(study: Study, lines: Lines, workdir: pathlib.Path) -> None:
    """Writes every file from the runs' lines, each whole; results.json last, which says that all are there."""
    found = tables_of(study, lines)
    texts = {
        "results.csv": tables.as_csv(found),
        "results.md": tables.as_markdown(study, found),
        "results.tex": tables.as_latex(study, found),
    }
    for name, text in texts.items():
        write_whole(workdir / name, lambda file, text=text: file.write(text.encode("utf-8", "backslashreplace")))
    write_json(workdir / "chosen.json", tables.chosen(study, found))
    figures.write_figures(workdir / "figures", found, study.own)
    write_page(workdir / "study.html", render(study, found, workdir.resolve().name))
    write_json(workdir / DONE, {"runs": len(lines)} | tables.as_json(study, found))


def written(workdir: pathlib.Path, lines: Lines) -> bool:
    """Whether every file is there, and is of these lines; older versions did not say of how many."""
    if not all((workdir / name).is_file() for name in FILES):
        return False
    told = check(read(workdir / DONE), Fields({}, {"runs": COUNT}), str(workdir / DONE))
    return told.get("runs", len(lines)) == len(lines)


def render(study: Study, found: list[Table], name: str) -> str:
    """The page as HTML."""
    first, *others = words.headline(study, found)
    return fill(
        "study", name=name, title=first, others=others, told=words.method(study, found),
        settings=[section(study, table, number) for number, table in enumerate(found)],
    )  # fmt: skip


def section(study: Study, table: Table, number: int) -> dict:
    """What the page says of a setting."""
    compared = {each.rival: each for each in table.rivals}
    rows = [
        {"name": row.name, "label": row.label, "own": row.name == study.own, "cells": line[1:5],
         "verdict": verdict(compared.get(row.name)), "tried": row.tried, "chosen": words.values(row),
         "diverged": row.diverged}
        for row, line in zip(table.rows, tables.cells(table), strict=True)
    ]  # fmt: skip
    labels = {row.name: row.label for row in table.rows}
    pairs = [
        (labels[each.row], labels[each.rival], words.points(each), words.p_value(each.adjusted), each.verdict)
        for each in table.pairs
    ]
    return {
        "name": table.setting.name, "rows": rows, "pairs": pairs, "own": tables.own_label(study, table),
        "overrides": tuple(tables.overrides_words(study, table)), "charts": charts(study, table, number),
    }  # fmt: skip


def verdict(compared) -> str:
    """Of config.method against a row, with its p."""
    return "" if compared is None else f"{compared.verdict} (p {words.p_value(compared.adjusted)})"


def charts(study: Study, table: Table, number: int) -> list[tuple[str, Markup]]:
    """Both figures with what they show; none where nothing has an accuracy."""
    if not any(row.mean is not None for row in table.rows):
        return []
    told = "; ".join(f"{row.label}: {words.accuracy(row)}" for row in table.rows)
    drawn = (
        (
            "Test accuracy; whiskers are 95% intervals of the mean over seeds, cut off at 0 and 100%.",
            figures.accuracies,
        ),
        ("Test accuracy against all bytes of a run, on a logarithmic axis.", figures.against_bytes),
    )
    return [
        (
            caption,
            palette.chart(
                f"study-{number}-{at}", f"{caption} {told}.", lambda width, draw=draw: draw(table, study.own, width)
            ),
        )
        for at, (caption, draw) in enumerate(drawn)
    ]
