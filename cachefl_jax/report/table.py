"""The methods side by side: rows that the page and the terminal share, and the plain-text table."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from cachefl_jax.report import units
from cachefl_jax.report.workdir import Run

# In the order in which they are told: the references from below, what the rounds trained, the reference from above.
LABELS = {
    "zero_shot": "zero-shot CLIP",
    "cache_init": "cache at round 0",
    "local_only": "each client alone",
    "cachefl": "CacheFL",
    "fine_tuned": "fine-tuned at each client",
    "features_once": "features sent once",
    "centralized": "centralized",
}
NO_ROUND = "no round was run"  # of a method that would have trained
EXPLANATIONS = {
    "zero_shot": "class names only, nothing trained",
    "cache_init": "as the server sends it, nothing tuned",
    "local_only": "tuned at each client, never averaged; mean over clients",
    "cachefl": "tuned at the clients, averaged by the server",
    "fine_tuned": "trained on at each client after the last round; mean over clients",
    "features_once": "as many rounds at the server, on features that every site has sent once",
    "centralized": "as many rounds with all data in one place",
}
UNTRAINED = ("zero_shot", "cache_init")


class MethodRow(NamedTuple):
    """What summary.json says of one method; None stands for what it does not say."""

    name: str
    label: str
    explanation: str
    test_accuracy: float | None  # share of the test rows, 0 to 1
    points: float | None  # test accuracy less that of zero_shot, of which there is none itself
    lowest: float | None  # over the clients, for methods that leave a model at each
    highest: float | None
    validation_accuracy: float | None
    rounds: float | None
    up: float | None  # bytes, one client in one round
    down: float | None
    total: float | None  # bytes, everybody, whole run
    flops: float | None  # one client in one round
    seconds: float | None  # a round of the whole cohort in the simulator
    diverged: bool = False
    entry: Mapping[str, Any] = {}


class Column(NamedTuple):
    """A column of the table of methods."""

    heading: str  # on the page
    short: str  # in the plain-text table; "" keeps it out of there
    cell: Callable[[MethodRow], str]
    below: Callable[[MethodRow], str] = lambda row: ""  # in small letters, on the page


def spread(row: MethodRow) -> str:
    """The lowest and the highest accuracy over the clients; "" for a method that leaves one model."""
    return "" if None in (row.lowest, row.highest) else f"{100 * row.lowest:.1f} to {100 * row.highest:.1f}"


def once(row: MethodRow) -> str:
    """What a figure of a client and round is for a row whose clients send a single time."""
    return "once" if row.entry.get("regime") == "features_once" else ""


COLUMNS = (
    Column("test accuracy", "test", lambda row: units.percent(row.test_accuracy), spread),
    Column("points vs zero-shot", "vs zero-shot", lambda row: units.points(row.points)),
    Column("validation accuracy", "", lambda row: units.percent(row.validation_accuracy)),
    Column("rounds", "", lambda row: units.integer(row.rounds)),
    Column("up, a client and round", "client up/round", lambda row: units.readable_bytes(row.up), once),
    Column("bytes in all", "bytes in all", lambda row: units.readable_bytes(row.total)),
    Column("work, a client and round", "client work/round", lambda row: units.readable_flops(row.flops)),
    Column("time a round", "round time", lambda row: units.readable_seconds(row.seconds)),
)


def label(name: str, entry: Mapping[str, Any] | None = None) -> str:
    """What people call the method ``name``: as its entry in the summary says, or as older versions called it; a name
    that is not known here stays as it is."""
    return (entry or {}).get("label") or LABELS.get(name, name)


def method_rows(summary: Mapping[str, Any]) -> list[MethodRow]:
    """A row for each of ``summary["methods"]``: the known ones in a fixed order, others before the upper reference.

    Raises UsageError: a value that should be a number is something else."""
    methods = summary["methods"]
    others = [name for name in methods if name not in LABELS]
    order = [*list(LABELS)[:-1], *others, list(LABELS)[-1]]
    zero_shot = units.number(methods.get("zero_shot", {}), "test_accuracy")
    return [method_row(name, methods[name], zero_shot) for name in order if name in methods]


def method_row(name: str, method: Mapping[str, Any], zero_shot: float | None) -> MethodRow:
    accuracy = units.number(method, "test_accuracy")
    return MethodRow(
        name=name,
        label=label(name, method),
        explanation=explanation(name, method),
        test_accuracy=accuracy,
        points=None if None in (accuracy, zero_shot) or name == "zero_shot" else accuracy - zero_shot,
        lowest=units.number(method, "test_accuracy_min"),
        highest=units.number(method, "test_accuracy_max"),
        validation_accuracy=units.number(method, "validation_accuracy"),
        rounds=units.number(method, "rounds"),
        up=units.number(method, "uplink_bytes_per_client_round"),
        down=units.number(method, "downlink_bytes_per_client_round"),
        total=units.number(method, "total_bytes"),
        flops=units.number(method, "client_flops_per_round"),
        seconds=units.number(method, "seconds_per_round"),
        diverged=bool(method.get("diverged")),
        entry=method,
    )


def explanation(name: str, method: Mapping[str, Any]) -> str:
    """Half a sentence on what was done."""
    if method.get("rounds") == 0 and name not in UNTRAINED and method.get("regime") not in ("round_0", "zero_shot"):
        return NO_ROUND
    return method.get("explanation") or EXPLANATIONS.get(name, "")


def main_row(run: Run) -> MethodRow:
    """The row of the method that the rounds trained; one without figures where the summary lacks it."""
    rows = {row.name: row for row in method_rows(run.summary)}
    return rows.get(run.method) or method_row(run.method, {}, None)


def method_table(summary: Mapping[str, Any]) -> str:
    """The methods of a summary.json as text: aligned for a terminal, and a Markdown table for a README.

    Args:
        summary: what a run's summary.json holds; see ``cachefl_jax.report.workdir``.

    Returns:
        A line for the headings, one below it, and one a method, without a line feed at the end.

    Raises UsageError: a value that should be a number is something else."""
    columns = [column for column in COLUMNS if column.short]
    lines = [["method", *(column.short for column in columns)]]
    lines += [[row.label, *(column.cell(row) for column in columns)] for row in method_rows(summary)]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    rule = "|" + "|".join("-" * (width + 1) + (":" if index else "-") for index, width in enumerate(widths)) + "|"
    text = ["| " + " | ".join(aligned(line, widths)) + " |" for line in lines]
    return "\n".join([text[0], rule, *text[1:]])


def aligned(cells: list[str], widths: list[int]) -> list[str]:
    """The first cell flush left, the figures flush right."""
    first, *figures = (cell.ljust(width) if not index else cell.rjust(width)
                       for index, (cell, width) in enumerate(zip(cells, widths, strict=True)))  # fmt: skip
    return [first, *figures]
