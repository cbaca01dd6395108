"""A study's tests against SciPy's, known examples, and chance."""

import numpy as np
import pytest
from scipy import stats

from cachefl_jax.study.statistics import (
    BETTER,
    EQUAL,
    UNKNOWN,
    WORSE,
    Sample,
    difference,
    holm,
    rows_test,
    seeds_test,
    verdict,
)

ONE, TWO = np.asarray([0.91, 0.93, 0.90, 0.94]), np.asarray([0.90, 0.91, 0.90, 0.91])


def sample(accuracy, correct=None, test=None) -> Sample:
    return Sample(np.asarray(accuracy), correct, test or ["same"] * len(accuracy))


def test_the_test_over_seeds_is_the_paired_t_test():
    p, half = seeds_test(ONE - TWO)
    expected = stats.ttest_rel(ONE, TWO)
    assert p == pytest.approx(expected.pvalue)
    assert half == pytest.approx((expected.confidence_interval(0.95).high - expected.confidence_interval(0.95).low) / 2)


@pytest.mark.parametrize("differences", [[0.1], [0.1, 0.1, 0.1], [0.0, 0.0]])
def test_seeds_that_say_nothing_of_the_error_are_no_test(differences):
    assert seeds_test(np.asarray(differences)) == (None, None)


def test_the_bootstrap_over_rows_has_the_normal_interval_of_many_rows():
    rng = np.random.default_rng(0)
    rows = rng.choice([-1, 0, 1], size=5000, p=[0.05, 0.88, 0.07])
    p, half = rows_test([rows], True)
    error = rows.std() / np.sqrt(len(rows))
    assert half == pytest.approx(1.96 * error, rel=0.03)
    assert p == pytest.approx(2 * stats.norm.sf(rows.mean() / error), abs=0.01)


def test_rows_of_several_seeds_are_drawn_together_where_they_are_the_same_rows():
    rows = np.random.default_rng(0).choice([-1, 0, 1], size=2000, p=[0.1, 0.7, 0.2])
    together, apart = rows_test([rows, rows, rows], True)[1], rows_test([rows, rows, rows], False)[1]
    assert together == pytest.approx(1.96 * rows.std() / np.sqrt(2000), rel=0.03)
    assert apart == pytest.approx(together / np.sqrt(3), rel=0.03)


def test_without_a_real_difference_few_are_found():
    rng = np.random.default_rng(1)
    found = [rows_test([rng.choice([-1, 0, 1], 400, p=[0.1, 0.8, 0.1])], True)[0] < 0.05 for _ in range(200)]
    assert 1 <= sum(found) <= 22


def test_the_larger_p_of_both_tests_counts_and_the_wider_interval():
    right = [np.arange(1000) < 1000 * share for share in ONE], [np.arange(1000) < 1000 * share for share in TWO]
    found = difference(sample(ONE, right[0]), sample(TWO, right[1]))
    assert found.p == max(found.p_seeds, found.p_rows) == found.p_seeds
    assert found.half == seeds_test(ONE - TWO)[1]
    assert found.mean == pytest.approx(0.015)


def test_methods_that_do_not_depend_on_the_seed_are_told_apart_by_their_test_rows_alone():
    one, two = np.arange(500) < 460, np.arange(500) < 455
    found = difference(sample([0.92] * 3, [one] * 3), sample([0.91] * 3, [two] * 3))
    assert found.p_seeds is None
    assert 0.01 < found.p < 0.1


def test_one_seed_has_the_bootstrap_and_without_rows_no_test_at_all():
    one, two = np.arange(100) < 90, np.arange(100) < 60
    assert difference(sample([0.9], [one]), sample([0.6], [two])).p < 0.001
    bare = difference(sample([0.9]), sample([0.6]))
    assert bare.p is None
    assert verdict(bare.mean, holm([bare.p])[0]) == UNKNOWN


def test_holm_steps_down():
    # Holm 1979's rule by hand: 0.005 x 4, then 0.01 x 3, 0.03 x 2, and never less than one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, None, 0.6]) == [1.0, None, 1.0]


def test_a_verdict_asks_for_the_adjusted_p():
    assert verdict(0.1, 0.04) == BETTER
    assert verdict(-0.1, 0.04) == WORSE
    assert verdict(0.1, 0.06) == EQUAL
