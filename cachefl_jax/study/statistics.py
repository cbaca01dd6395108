"""What may be said of two rows of a study: how far they are apart, with what error, and whether that is a difference.

Two things make a difference uncertain: the seeds (partition, drawn images, batches) and the test rows. Each has its
test, both paired, as all rows of a study share seeds and test rows:

    seeds       Student's t of the differences d_s, with n - 1 degrees of freedom; from two seeds on, if they differ
    test rows   the bootstrap of the mean over rows (Efron & Tibshirani, 1993, chapter 16), `RESAMPLES` times

A difference counts as one only where every test that there is says so: the largest p counts, and the widest interval is
told. Several comparisons are corrected by Holm's step-down rule (Scandinavian Journal of Statistics 6, 1979).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student

LEVEL = 0.05  # of all comparisons of a family together
RESAMPLES = 20_000
BETTER, WORSE, EQUAL, UNKNOWN = "better", "worse", "no difference within error", "not tested"


class Sample(NamedTuple):
    """A row's runs in one setting, in the order of their seeds."""

    accuracy: np.ndarray  # [S] on the test rows, 0..1
    correct: list[np.ndarray] | None  # of each seed [n] bool, which test rows are right; None: not known
    test: Sequence[str]  # of each seed what tells its test rows from others'


class Difference(NamedTuple):
    """One row's accuracy less another's."""

    mean: float
    half: float | None  # of the 95% interval
    p_seeds: float | None
    p_rows: float | None

    @property
    def p(self) -> float | None:
        """The largest p of the tests that there are."""
        return max((p for p in (self.p_seeds, self.p_rows) if p is not None), default=None)


def difference(left: Sample, right: Sample) -> Difference:
    """`left` less `right`, seed by seed."""
    by_seed = left.accuracy - right.accuracy
    p_seeds, half_seeds = seeds_test(by_seed)
    p_rows, half_rows = None, None
    if left.correct is not None and right.correct is not None:
        pairs = zip(left.correct, right.correct, strict=True)
        by_row = [one.astype(np.int64) - other for one, other in pairs]
        p_rows, half_rows = rows_test(by_row, len(set(left.test)) == 1)
    halves = [half for half in (half_seeds, half_rows) if half is not None]
    return Difference(float(by_seed.mean()), max(halves, default=None), p_seeds, p_rows)


def seeds_test(differences: np.ndarray) -> tuple[float | None, float | None]:
    """(p, half of the 95% interval) of the paired t-test; None where all seeds agree, or there is but one."""
    count = len(differences)
    if count < 2 or np.ptp(differences) < 1e-12:
        return None, None
    error = differences.std(ddof=1) / np.sqrt(count)
    p = 2 * student.sf(abs(differences.mean()) / error, count - 1)
    return float(p), float(student.ppf(1 - LEVEL / 2, count - 1) * error)


def rows_test(differences: list[np.ndarray], same: bool) -> tuple[float, float]:
    """(p, half of the 95% interval) of the paired bootstrap over test rows.

    Args:
        differences: of each seed, [n] whole numbers -1, 0, 1.
        same: whether all seeds have the same test rows: then a row is drawn with all its seeds.
    """
    count, rng = len(differences), np.random.default_rng(0)
    strata = [sum(differences)] if same else differences
    # A resample is known by how often each value is drawn.
    means = np.zeros(RESAMPLES)
    for rows in strata:
        values, times = np.unique(rows, return_counts=True)
        means += rng.multinomial(len(rows), times / len(rows), RESAMPLES) @ values / len(rows)
    means /= count
    below, above = (means <= 0).sum(), (means >= 0).sum()
    low, high = np.quantile(means, [LEVEL / 2, 1 - LEVEL / 2])
    return min(1.0, float(2 * (min(below, above) + 1) / (RESAMPLES + 1))), float(high - low) / 2


def holm(p: Sequence[float | None]) -> list[float | None]:
    """The p of a family of comparisons, adjusted; None stays None and is none of the family."""
    known = sorted((value, at) for at, value in enumerate(p) if value is not None)
    adjusted: list[float | None] = [None] * len(p)
    least = 0.0
    for rank, (value, at) in enumerate(known):
        least = max(least, min(1.0, (len(known) - rank) * value))
        adjusted[at] = least
    return adjusted


def verdict(mean: float, adjusted: float | None) -> str:
    """What may be said of a difference whose p is adjusted."""
    if adjusted is None:
        return UNKNOWN
    return EQUAL if adjusted > LEVEL else BETTER if mean > 0 else WORSE
