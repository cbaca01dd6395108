"""Several runs on one page: what they share is shown once, and pictures of a few only, so that the page stays small."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from cachefl_jax.report import holdings, palette, pictures, table, units, words
from cachefl_jax.report.workdir import Run

MOST_HOLDINGS = 4  # partitions that are drawn
MOST_SHEETS = 2  # sets of pictures that are shown
MOST_CLASSES = 10  # on each


def comparison(runs: Sequence[Run]) -> dict[str, Any]:
    """What the page of several runs tells besides their accuracies and what was measured."""
    partitions = alike(runs, partition_of)
    pictured = alike([run for run in runs if run.synthetic is not None], pictures_of)
    return {
        "runs": [section(index, run) for index, run in enumerate(runs)],
        "differences": differences(runs),
        "holdings": [
            {"names": named(group), **holdings.shown(group[0], f"holdings-{index}")}
            for index, group in enumerate(partitions[:MOST_HOLDINGS])
        ],
        "holdings_left": left(partitions[MOST_HOLDINGS:], "Who holds what in"),
        "sheets": [
            {"names": named(group), **pictures.shown(group[0], MOST_CLASSES)} for group in pictured[:MOST_SHEETS]
        ],
        "sheets_left": left(pictured[MOST_SHEETS:], "The images of") or ("" if pictured else NO_SHEETS),
    }


NO_SHEETS = "None of these runs left images to show."


def section(index: int, run: Run) -> dict[str, Any]:
    return {
        "name": run.name,
        "colour": palette.run_colour(index),
        "rows": table.method_rows(run.summary),
        "main": table.main_row(run),
        "headline": words.headline(run),
        "config": flat(run.config).items(),
    }


def alike(runs: Sequence[Run], key: Callable[[Run], Hashable]) -> list[list[Run]]:
    """The runs in groups of the same key, in the order of their first."""
    groups: dict[Hashable, list[Run]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    return list(groups.values())


def partition_of(run: Run) -> Hashable:
    """What the picture of who holds what is drawn from, and the card beside it."""
    cells = run.cells
    if cells is None:
        return repr(run.sites)
    arrays = tuple(array.tobytes() for array in (cells.client, cells.label, cells.count))
    return (*arrays, cells.clients, tuple(run.class_names), repr(run.card))


def pictures_of(run: Run) -> Hashable:
    """What a contact sheet shows and says."""
    return (run.synthetic.tobytes(), run.real.tobytes(), run.synthetic.shape, pictures.shown(run, 0)["how"])


def named(group: Sequence[Run]) -> str:
    return words.listed([run.name for run in group], most=6)


def left(groups: Sequence[Sequence[Run]], what: str) -> str:
    """Which runs' pictures are left out; "" where none are."""
    names = [run.name for group in groups for run in group]
    return f"{what} {words.listed(names, most=6)}: on the runs' own pages." if names else ""


def flat(config: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """A nested config by dotted names, in its own order: {"data": {"name": "digits"}} -> {"data.name": "digits"}."""
    fields: dict[str, str] = {}
    for name, value in config.items():
        if isinstance(value, dict):
            fields |= flat(value, f"{prefix}{name}.")
        else:
            fields[f"{prefix}{name}"] = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return fields


def differences(runs: Sequence[Run]) -> dict[str, Any]:
    """The config fields on which the runs are not all alike, with each run's value: a row a field, or a row a run where
    there are more runs than such fields."""
    configs = [flat(run.config) for run in runs]
    names = dict.fromkeys(name for config in configs for name in config)
    values = {name: [config.get(name, units.EMPTY) for config in configs] for name in names}
    rows = [[name, *row] for name, row in values.items() if len(set(row)) > 1]
    lines = [["field", *(run.name for run in runs)], *rows]
    if len(runs) > len(rows):
        lines = [list(column) for column in zip(*lines, strict=True)]
        lines[0][0] = "run"
    return {"head": lines[0], "rows": lines[1:] if rows else []}
