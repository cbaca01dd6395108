"""A study's results as files for other programs and for papers: CSV, JSON, LaTeX (booktabs), Markdown, overrides."""

import csv
import io
import json
from typing import Any

from cachefl_jax.config.rows import in_full, row_of
from cachefl_jax.report import units
from cachefl_jax.study import words
from cachefl_jax.study.plan import Study
from cachefl_jax.study.results import Comparison, Standing, Table

NUMBERS = {
    "test_accuracy": ("test_accuracy",), "validation_accuracy": ("validation_accuracy",),
    "test_balanced_accuracy": ("test_balanced_accuracy",), "test_ece": ("test_ece",),
    "test_cross_entropy": ("test_cross_entropy",), "clients_mean": ("clients", "mean"),
    "clients_worst_tenth": ("clients", "worst_tenth"), "rounds": ("rounds",),
    "uplink_bytes_per_client_round": ("uplink_bytes_per_client_round",),
    "downlink_bytes_per_client_round": ("downlink_bytes_per_client_round",), "total_bytes": ("total_bytes",),
    "client_flops_per_round": ("client_flops_per_round",),
}  # fmt: skip
HEADS = ("row", "test accuracy", "bytes up, a client and round", "bytes in all", "difference", "verdict")


def as_csv(tables: list[Table]) -> str:
    """A line for each run of the chosen values: tidy data."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["setting", "row", "label", "regime", "seed", *NUMBERS, "values"])
    for table in tables:
        for row in table.rows:
            for seed, entry in row.runs.items():
                numbers = [row.number(entry, path) for path in NUMBERS.values()]
                told = ["" if number is None else number for number in numbers]
                where = [table.setting.name, row.name, row.label, row.regime, seed]
                writer.writerow([*where, *told, json.dumps(row.values)])
    return file.getvalue()


def as_json(study: Study, tables: list[Table]) -> dict[str, Any]:
    """Everything: of each setting its rows, and how they compare."""
    return {
        "headline": words.headline(study, tables),
        "method": study.own,
        "seeds": list(study.seeds),
        "tuning_seeds": list(study.tuning_seeds),
        "budget": study.config.study.budget,
        "how": words.method(study, tables),
        "settings": [setting_as_json(table) for table in tables],
    }


def setting_as_json(table: Table) -> dict[str, Any]:
    return {
        "name": table.setting.name,
        "overrides": table.setting.overrides,
        "rows": {row.name: row_as_json(row) for row in table.rows},
        "against_method": [pair_as_json(each) for each in table.rivals],
        "pairs": [pair_as_json(each) for each in table.pairs],
    }


def row_as_json(row: Standing) -> dict[str, Any]:
    return {
        "label": row.label, "regime": row.regime, "values": row.values, "points_tried": row.tried,
        "diverged_seeds": row.diverged, "test_accuracy_mean": row.mean, "test_accuracy_std": row.std,
        "test_accuracy": {str(seed): entry["test_accuracy"] for seed, entry in row.runs.items()},
        **{name: row.average(*path) for name, path in NUMBERS.items() if name != "test_accuracy"},
    }  # fmt: skip


def pair_as_json(pair: Comparison) -> dict[str, Any]:
    return {
        "row": pair.row, "rival": pair.rival, "difference": pair.difference.mean,
        "half_interval": pair.difference.half, "p_seeds": pair.difference.p_seeds,
        "p_test_rows": pair.difference.p_rows, "p_both": pair.difference.p_both, "p": pair.difference.p,
        "p_holm": pair.adjusted,
        "verdict": pair.verdict,
    }  # fmt: skip


def cells(table: Table) -> list[tuple[str, ...]]:
    """A setting's rows as text, under `HEADS`; the differences are config.method's less the row's."""
    compared = {each.rival: each for each in table.rivals}
    found = []
    for row in table.rows:
        each = compared.get(row.name)
        against = (words.points(each), each.verdict) if each else (units.EMPTY, units.EMPTY)
        up, total = row.average("uplink_bytes_per_client_round"), row.average("total_bytes")
        found.append((row.label, words.accuracy(row), units.readable_bytes(up), units.readable_bytes(total), *against))
    return found


def as_markdown(study: Study, tables: list[Table]) -> str:
    """The headline, a table for each setting, and how the figures came about."""
    parts = ["\n".join(f"- {line}" for line in words.headline(study, tables))]
    for table in tables:
        heads = (*HEADS[:4], f"{own_label(study, table)} less it", HEADS[5])
        lines = [heads, ("---", *["---:"] * 4, "---"), *cells(table)]
        told = "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
        parts.append(f"{f'### {table.setting.name}' if table.setting.name else ''}\n\n{told}".strip())
    return "\n\n".join([*parts, *words.method(study, tables)]) + "\n"


def own_label(study: Study, table: Table) -> str:
    return next((row.label for row in table.rows if row.name == study.own), study.own)


def as_latex(study: Study, tables: list[Table]) -> str:
    """A booktabs table with a block for each setting; the best mean of each, references apart, in bold."""
    lines = [
        "% needs \\usepackage{booktabs}",
        f"% difference: {study.own} less the row, in points; +-: std over seeds, of a difference half its 95% interval",
        "\\begin{tabular}{lrrrrl}",
        "\\toprule",
        " & ".join(("method", "accuracy (\\%)", "up, client, round", "bytes in all", "difference", "verdict"))
        + " \\\\",
    ]
    for table in tables:
        lines.append("\\midrule")
        if table.setting.name:
            lines += [f"\\multicolumn{{6}}{{l}}{{\\emph{{{latex(table.setting.name)}}}}} \\\\"]
        best = best_mean(table)
        for row, line in zip(table.rows, cells(table), strict=True):
            name, figure, *others = map(latex, line)
            others = [f"$-${cell[1:]}" if cell[1:2].isdigit() and cell[0] == "-" else cell for cell in others]
            figure = figure.replace("\\%", "")
            figure = f"\\textbf{{{figure}}}" if row.mean is not None and row.mean == best else figure
            lines.append(" & ".join([name, figure, *others]) + " \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


def best_mean(table: Table) -> float | None:
    return max((row.mean for row in table.rows if row.mean is not None and row.regime != "centralized"), default=None)


SPECIAL = {
    "\\": "\\textbackslash{}", "&": "\\&", "%": "\\%", "$": "\\$", "#": "\\#", "_": "\\_", "{": "\\{", "}": "\\}",
    "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "±": "$\\pm$", "<": "$<$", ">": "$>$",
}  # fmt: skip


def latex(text: str) -> str:
    """A text in which nothing is a command."""
    return "".join(SPECIAL.get(letter, letter) for letter in text)


def chosen(study: Study, tables: list[Table]) -> dict[str, Any]:
    """What was chosen: by setting the rows' values, and the `overrides` that a config takes."""
    return {
        table.setting.name: {
            "overrides": overrides_words(study, table),
            "rows": {row.name: row.values for row in table.rows},
        }
        for table in tables
    }


def overrides_words(study: Study, table: Table) -> list[str]:
    """A setting's chosen values as the texts of config.overrides, after the config's own: a later one counts.

    Fine-tuned rows are left out: a run's go on from the last round of their method, which has values of its own."""
    method, words_ = study.config.method, list(study.config.overrides)
    for row in (row for row in study.rows if row.regime != "fine_tuned"):
        name = row.name if row_of(method, row.name)[1:] == row[1:] else in_full(row)
        found = next((each for each in table.rows if each.name == row.name), None)
        words_ += [f"{name}: {field}={value}" for field, value in (found.values if found else {}).items()]
    return words_
