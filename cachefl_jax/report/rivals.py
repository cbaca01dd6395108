"""The run's method against every other row of its table, with what chance may do."""

from typing import NamedTuple

from cachefl_jax.report import table, units
from cachefl_jax.report.table import MethodRow, main_row
from cachefl_jax.report.workdir import Run

NORMAL_95 = 1.96  # standard errors to each side that hold 95% of a normal distribution


class Comparison(NamedTuple):
    """How far the run's method is from another row of the table."""

    points: str  # "+34.0": the run's method less the other
    label: str  # of the other method
    accuracy: str  # of the other method
    difference: float  # share of the test rows
    within_error: bool  # too small to be told from chance
    error: float | None  # half the 95% interval of the difference; None: the number of test rows is not known
    total: float | None  # bytes that the other sends in all; None: not counted
    pooled: bool  # whether the other needs all data in one place


def untrained(run: Run) -> bool:
    """Whether the run had no rounds: what is called its method is its start."""
    return main_row(run).rounds == 0


def test_rows(run: Run) -> int:
    """0 where the summary does not tell."""
    return int(units.number(run.summary["dataset"], "test") or 0)


def is_equal(other: Comparison) -> bool:
    return other.within_error or other.difference == 0


def is_better(other: Comparison) -> bool:
    """Whether the other method is better than the run's own by more than chance may do."""
    return other.difference < 0 and not is_equal(other)


def comparisons(run: Run) -> list[Comparison]:
    """The run's method against each of the others that has a test accuracy. Before any round it is the cache at round
    0, which is then no other."""
    own, rows = main_row(run).test_accuracy, test_rows(run)
    if own is None:
        return []
    same = {run.method, "cache_init"} if untrained(run) else {run.method}
    return [
        Comparison(
            units.points(own - row.test_accuracy), row.label, units.percent(row.test_accuracy),
            own - row.test_accuracy, within_error(own, row.test_accuracy, rows),
            half_interval(own, row.test_accuracy, rows), row.total, is_pooled(row),
        )
        for row in table.method_rows(run.summary)
        if row.name not in same and row.test_accuracy is not None
    ]  # fmt: skip


def best_rival(run: Run) -> Comparison | None:
    """The other row of the best test accuracy, but for those that need all data in one place; None without any."""
    rivals = (other for other in comparisons(run) if not other.pooled)
    return min(rivals, key=lambda other: other.difference, default=None)


def is_pooled(row: MethodRow) -> bool:
    """Whether a row of the table needs all data in one place: no rival, but what could be had without the wish for
    privacy."""
    return row.entry.get("regime", row.name) == "centralized"


def within_error(left: float, right: float, rows: int) -> bool:
    """Whether the 95% interval of the difference of two accuracies holds 0; False where it is not known."""
    half = half_interval(left, right, rows)
    return half is not None and abs(left - right) * rows / (rows + 2) <= half


def half_interval(left: float, right: float, rows: int) -> float | None:
    """Half of the 95% interval of the difference of two accuracies; None where the number of rows is not known.

    Agresti and Caffo's interval (The American Statistician 54, 2000), which holds near 0 and 1 too, as if each had
    ``rows`` test rows of its own: on the same rows differences vary less, so that nothing is called a difference too
    soon.
    """
    if not rows:
        return None
    shares = [(share * rows + 1) / (rows + 2) for share in (left, right)]
    return NORMAL_95 * sum(share * (1 - share) / (rows + 2) for share in shares) ** 0.5
