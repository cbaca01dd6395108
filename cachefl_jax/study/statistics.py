"""What may be said of two rows of a study: how far they are apart, with what error, and whether that is a difference.

Two things make a difference uncertain: the seeds (partition, drawn images, batches) and the test rows. All rows of a
study share both, so that everything is paired:

    seeds       Student's t of the differences d_s, with n - 1 degrees of freedom; from two seeds on, if they differ
    test rows   randomization: each row's difference, the mean over seeds, has either sign as likely as the other. By
                the normal distribution with a correction for continuity of one row; for one seed that is McNemar's test
                (Psychometrika 12, 1947; Edwards 1948). The interval is the bootstrap's (Efron & Tibshirani, 1993,
                chapter 13), which has too small a p itself where few rows differ
    both        Student's t by the sum of both variances, with Welch's and Satterthwaite's degrees of freedom; where all
                seeds have the same test rows. Other test rows for each seed are in the differences d_s already

A difference counts as one only where every test that there is says so: the largest p counts, and the widest interval is
told. Several comparisons are corrected by Holm's step-down rule (Scandinavian Journal of Statistics 6, 1979).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

LEVEL = 0.05  # of all comparisons of a family together
RESAMPLES = 4_000  # by which half an interval is known to 2%
BETTER, WORSE, EQUAL, UNKNOWN = "better", "worse", "no difference within error", "not tested"


class Sample(NamedTuple):
    """A row's runs in one setting, in the order of their seeds."""

    accuracy: np.ndarray  # [S] on the test rows, 0..1
    correct: list[np.ndarray] | None  # of each seed [n], the share of models that have a row right; None: not known
    test: Sequence[str]  # of each seed what tells its test rows from others'


class Tested(NamedTuple):
    """What one source of uncertainty says of a difference."""

    p: float
    half: float  # of the 95% interval
    error: float  # the standard error of the mean


class Difference(NamedTuple):
    """One row's accuracy less another's. A test that there is none of is None."""

    mean: float
    half: float | None  # of the 95% interval
    p_seeds: float | None
    p_rows: float | None
    p_both: float | None

    @property
    def p(self) -> float | None:
        """The largest p of the tests that there are."""
        return max((p for p in (self.p_seeds, self.p_rows, self.p_both) if p is not None), default=None)


def difference(left: Sample, right: Sample) -> Difference:
    """`left` less `right`, seed by seed."""
    by_seed, rows, both = left.accuracy - right.accuracy, None, None
    seeds = seeds_test(by_seed)
    if left.correct is not None and right.correct is not None:
        same = len(set(left.test)) == 1
        by_row = [one.astype(float) - other for one, other in zip(left.correct, right.correct, strict=True)]
        rows = rows_test(by_row, same)
        both = both_test(by_seed, seeds, rows) if seeds and same else None
    halves = [test.half for test in (seeds, rows, both) if test is not None]
    p = (test and test.p for test in (seeds, rows, both))
    return Difference(float(by_seed.mean()), max(halves, default=None), *p)


def seeds_test(differences: np.ndarray) -> Tested | None:
    """The paired t-test; None where all seeds agree, or there is but one."""
    count = len(differences)
    if count < 2 or np.ptp(differences) < 1e-12:
        return None
    return t_test(differences.mean(), differences.std(ddof=1) / np.sqrt(count), count - 1)


def t_test(mean: float, error: float, freedom: float) -> Tested:
    """Student's t of a mean whose standard error is estimated with so many degrees of freedom."""
    half = student.ppf(1 - LEVEL / 2, freedom) * error
    return Tested(float(2 * student.sf(abs(mean) / error, freedom)), float(half), float(error))


def rows_test(differences: list[np.ndarray], same: bool) -> Tested:
    """The paired randomization test over test rows, with the bootstrap's interval.

    Args:
        differences: of each seed, [n] numbers -1..1.
        same: whether all seeds have the same test rows: then a row keeps together what it is for all seeds.
    """
    count = len(differences)
    strata = [sum(differences) / count] if same else [rows / count for rows in differences]
    parts = np.concatenate([rows / len(rows) for rows in strata])  # of the mean
    spread = np.sqrt((parts**2).sum())
    beyond = abs(parts.sum()) - abs(parts).max()
    p = 2 * norm.sf(beyond / spread) if beyond > 0 else 1.0
    error = np.sqrt(sum(rows.var() / len(rows) for rows in strata))
    return Tested(float(p), bootstrap_half(strata), float(error))


def bootstrap_half(strata: list[np.ndarray]) -> float:
    """Half of the 95% interval of the sum of the strata's means, the rows of each drawn anew `RESAMPLES` times."""
    rng, means = np.random.default_rng(0), np.zeros(RESAMPLES)
    for rows in strata:
        # A resample is known by how often each value is drawn.
        values, times = np.unique(rows.round(9), return_counts=True)
        means += rng.multinomial(len(rows), times / len(rows), RESAMPLES) @ values / len(rows)
    low, high = np.quantile(means, [LEVEL / 2, 1 - LEVEL / 2])
    return float(high - low) / 2


def both_test(by_seed: np.ndarray, seeds: Tested, rows: Tested) -> Tested:
    """The t-test by both variances. What is uncertain of a row by its seeds is in both of them, so it is cautious."""
    total = seeds.error**2 + rows.error**2
    freedom = (len(by_seed) - 1) * (total / seeds.error**2) ** 2
    return t_test(by_seed.mean(), np.sqrt(total), freedom)


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
