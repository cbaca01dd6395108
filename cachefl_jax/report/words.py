"""The headline in plain words: how the run's method stands to each of the others, and what is chance in it."""

from collections.abc import Mapping, Sequence
from typing import Any

from cachefl_jax.report import table, units
from cachefl_jax.report.rivals import (
    Comparison,
    best_rival,
    comparisons,
    is_better,
    is_equal,
    test_rows,
    untrained,
)
from cachefl_jax.report.table import MethodRow, main_row
from cachefl_jax.report.workdir import Run

MOST_RIVALS = 3  # that the headline names


def source(run: Run) -> str:
    """Where the server's images come from: synthesis.source, "bank" for features; "" where the config does not say."""
    if (run.config.get("data") or {}).get("name") == "feature_bank":
        return "bank"
    return (run.config.get("synthesis") or {}).get("source", "")


def tested(run: Run) -> str:
    """What the accuracy is a share of."""
    return "test rows" if source(run) == "bank" else "test images"


def own_entry(run: Run) -> Mapping[str, Any]:
    """What the summary says of the run's method; nothing where it is not among what was compared."""
    return run.summary["methods"].get(run.method, {})


def at_round_0(run: Run) -> str:
    """What the run's method is called before any round."""
    return own_entry(run).get("untrained") or f"{main_row(run).label} at round 0"


def headline(run: Run) -> str:
    """`sentences`, one after the other."""
    return " ".join(sentences(run))


def sentences(run: Run) -> list[str]:
    """The first words of the page, one sentence or two: how the run's method stands to the best of its rivals, in
    points with their error and in bytes; then to zero-shot CLIP, and which others are better, or equal within error."""
    row = main_row(run)
    if row.test_accuracy is None:
        return [units.sentence(without_accuracy(run, row))]
    name = f"The {at_round_0(run)} (no round was run)" if untrained(run) else row.label
    first = f"{name} classifies {units.percent(row.test_accuracy)} of the {tested(run)} correctly"
    others = comparisons(run)
    best = best_rival(run)
    if best is not None:
        first += f", {against(row, best, others)}"
    more = []
    others = [other for other in others if other != best]
    zero_shot = next((other for other in others if other.label == table.label("zero_shot")), None)
    if zero_shot is not None:
        more.append(f"it is {gap(zero_shot)} {zero_shot.label}")
    rivals = [other for other in others if other is not zero_shot]
    better = sorted((other for other in rivals if is_better(other)), key=lambda other: other.difference)
    equal = [other for other in rivals if is_equal(other)]
    if better:
        more.append(f"{listed([f'{other.label} (by {margin(other)})' for other in better])} {verb(better)} better")
    if equal:
        more.append(f"{listed([other.label for other in equal])} {verb(equal)} {equal_words(equal)}")
    return [f"{units.sentence(told)}." for told in (first, "; ".join(more)) if told]


def against(row: MethodRow, best: Comparison, others: Sequence[Comparison]) -> str:
    """How the run's method stands to the best of its rivals."""
    told = f"{gap(best)} {best.label}"
    if sum(not other.pooled for other in others) > 1:
        told += ", the best of the others"
    if is_equal(best) and best.difference:
        told += f" ({best.points}{error_words(best)} points)"
    if None not in (row.total, best.total):
        own, theirs = (units.readable_bytes(total) if total else "nothing" for total in (row.total, best.total))
        told += f", with {own} sent in all against {theirs}"
    return told


def without_accuracy(run: Run, row: MethodRow) -> str:
    if run.method not in run.summary["methods"]:
        return f"{row.label} is not among the methods that this run compares."
    if row.diverged:
        return f"{row.label} diverged: its training did not stay finite, so it has no accuracy."
    return f"{row.label}: no test accuracy was measured."


def equal_words(equal: Sequence[Comparison]) -> str:
    """Equal figures are only called so within error where an error is known."""
    return "equal within error" if any(other.within_error for other in equal) else "equal"


def verb(others: Sequence[Comparison]) -> str:
    return "is" if len(others) == 1 else "are"


def margin(other: Comparison) -> str:
    return f"{100 * abs(other.difference):.1f}{error_words(other)} points"


def error_words(other: Comparison) -> str:
    """ " ± 2.1", half of the 95% interval; "" where it is not known."""
    return "" if other.error is None else f" ± {100 * other.error:.1f}"


def listed(names: Sequence[str], most: int = MOST_RIVALS) -> str:
    """ "a, b and c", or "a, b, c and 4 more"."""
    names = [*names[:most], f"{len(names) - most} more"] if len(names) > most else list(names)
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


def title(runs: Sequence[Run]) -> str:
    """The headline of the whole page: of one run its first sentence."""
    if len(runs) == 1:
        return sentences(runs[0])[0]
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


def doubt(run: Run) -> str | None:
    """The standard error of the test accuracy, in words; None where it cannot be told: all right or all wrong is no
    proof of certainty."""
    share, rows = main_row(run).test_accuracy, test_rows(run)
    if share is None or not rows or not 0 < share < 1:
        return None
    error = (share * (1 - share) / rows) ** 0.5
    return f"{100 * error:.1f} points, from {rows:,} test rows"
