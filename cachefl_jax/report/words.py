"""The headline in plain words: how the run's method stands to each of the others, and what is chance in it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cachefl_jax.report import table, units
from cachefl_jax.report.table import MethodRow, main_row
from cachefl_jax.report.workdir import Run

NORMAL_95 = 1.96  # standard errors to each side that hold 95% of a normal distribution
MOST_RIVALS = 3  # that the headline names


class Comparison(NamedTuple):
    """How far the run's method is from another one."""

    points: str  # "+34.0": the run's method less the other
    label: str  # of the other method
    accuracy: str  # of the other method
    difference: float  # share of the test rows
    within_error: bool  # too small to be told from chance


def source(run: Run) -> str:
    """Where the server's images come from: synthesis.source, "bank" for features; "" where the config does not say."""
    if (run.config.get("data") or {}).get("name") == "feature_bank":
        return "bank"
    return (run.config.get("synthesis") or {}).get("source", "")


def tested(run: Run) -> str:
    """What the accuracy is a share of."""
    return "test rows" if source(run) == "bank" else "test images"


def untrained(run: Run) -> bool:
    """Whether the run had no rounds: what is called its method is its start."""
    return main_row(run).rounds == 0


def own_entry(run: Run) -> Mapping[str, Any]:
    """What the summary says of the run's method; nothing where it is not among what was compared."""
    return run.summary["methods"].get(run.method, {})


def at_round_0(run: Run) -> str:
    """What the run's method is called before any round."""
    return own_entry(run).get("untrained") or f"{main_row(run).label} at round 0"


def test_rows(run: Run) -> int:
    """0 where the summary does not tell."""
    return int(units.number(run.summary["dataset"], "test") or 0)


def headline(run: Run) -> str:
    """The one sentence at the top. It names every method of the table that is better, or equal within error."""
    row = main_row(run)
    if row.test_accuracy is None:
        return without_accuracy(run, row)
    name = f"The {at_round_0(run)} (no round was run)" if untrained(run) else row.label
    sentence = f"{name} classifies {units.percent(row.test_accuracy)} of the {tested(run)} correctly"
    others = comparisons(run)
    zero_shot = next((other for other in others if other.label == table.label("zero_shot")), None)
    if zero_shot is not None:
        sentence += f", {gap(zero_shot)} {zero_shot.label}"
    rivals = [other for other in others if other is not zero_shot]
    better = sorted((other for other in rivals if is_better(other)), key=lambda other: other.difference)
    equal = [other for other in rivals if is_equal(other)]
    parts = [sentence]
    if better:
        parts.append(f"{listed([f'{other.label} (by {margin(other)})' for other in better])} {verb(better)} better")
    if equal:
        parts.append(f"{listed([other.label for other in equal])} {verb(equal)} {equal_words(equal)}")
    return "; ".join(parts) + "."


def without_accuracy(run: Run, row: MethodRow) -> str:
    if run.method not in run.summary["methods"]:
        return f"{row.label} is not among the methods that this run compares."
    if row.diverged:
        return f"{row.label} diverged: its training did not stay finite, so it has no accuracy."
    return f"{row.label}: no test accuracy was measured."


def is_equal(other: Comparison) -> bool:
    return other.within_error or other.difference == 0


def is_better(other: Comparison) -> bool:
    """Whether the other method is better than the run's own by more than chance may do."""
    return other.difference < 0 and not is_equal(other)


def equal_words(equal: Sequence[Comparison]) -> str:
    """Equal figures are only called so within error where an error is known."""
    return "equal within error" if any(other.within_error for other in equal) else "equal"


def verb(others: Sequence[Comparison]) -> str:
    return "is" if len(others) == 1 else "are"


def margin(other: Comparison) -> str:
    return f"{100 * abs(other.difference):.1f} points"


def listed(names: Sequence[str], most: int = MOST_RIVALS) -> str:
    """ "a, b and c", or "a, b, c and 4 more"."""
    names = [*names[:most], f"{len(names) - most} more"] if len(names) > most else list(names)
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


def title(runs: Sequence[Run]) -> str:
    """The headline of the whole page."""
    if len(runs) == 1:
        return headline(runs[0])
    figures = sorted(row.test_accuracy for row in map(main_row, runs) if row.test_accuracy is not None)
    if not figures:
        return f"{len(runs)} runs compared: none has a test accuracy."
    ends = dict.fromkeys(units.percent(figure) for figure in (figures[0], figures[-1]))
    what = listed(list(dict.fromkeys(map(tested, runs))))
    without = len(runs) - len(figures)
    rest = f"; {without} {'has' if without == 1 else 'have'} no test accuracy" if without else ""
    return f"{len(runs)} runs compared: {' to '.join(ends)} of their {what} classified correctly{rest}."


def gain(run: Run) -> tuple[str, str]:
    """(the question, the figure that answers it): points over zero-shot where there is one, or else the accuracy."""
    row = main_row(run)
    if row.test_accuracy is None:
        return "How accurate?", "not measured"
    if row.points is None:
        return "How accurate?", units.percent(row.test_accuracy)
    return "How much better than zero-shot?", f"{units.points(row.points)} points"


def gap(other: Comparison) -> str:
    """ "34.0 points above"; what chance may do is "within error of"."""
    if is_equal(other):
        return "within error of" if other.within_error else "level with"
    return f"{margin(other)} {'above' if other.difference > 0 else 'below'}"


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
        )
        for row in table.method_rows(run.summary)
        if row.name not in same and row.test_accuracy is not None
    ]  # fmt: skip


def within_error(left: float, right: float, rows: int) -> bool:
    """Whether the 95% interval of the difference of two accuracies holds 0.

    Agresti and Caffo's interval (The American Statistician 54, 2000), which holds near 0 and 1 too, as if each had
    ``rows`` test rows of its own: on the same rows differences vary less, so that nothing is called a difference too
    soon. False where the number of rows is not known.
    """
    if not rows:
        return False
    shares = [(share * rows + 1) / (rows + 2) for share in (left, right)]
    variance = sum(share * (1 - share) / (rows + 2) for share in shares)
    return abs(shares[0] - shares[1]) <= NORMAL_95 * variance**0.5


def doubt(run: Run) -> str | None:
    """The standard error of the test accuracy, in words; None where it cannot be told: all right or all wrong is no
    proof of certainty."""
    share, rows = main_row(run).test_accuracy, test_rows(run)
    if share is None or not rows or not 0 < share < 1:
        return None
    error = (share * (1 - share) / rows) ** 0.5
    return f"{100 * error:.1f} points, from {rows:,} test rows"
