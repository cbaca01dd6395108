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
    found, expected = seeds_test(ONE - TWO), stats.ttest_rel(ONE, TWO)
    assert found.p == pytest.approx(expected.pvalue)
    low, high = expected.confidence_interval(0.95)
    assert found.half == pytest.approx((high - low) / 2)


@pytest.mark.parametrize("differences", [[0.1], [0.1, 0.1, 0.1], [0.0, 0.0]])
def test_seeds_that_say_nothing_of_the_error_are_no_test(differences):
    assert seeds_test(np.asarray(differences)) is None


def test_many_rows_have_the_normal_interval_and_p():
    rng = np.random.default_rng(0)
    rows = rng.choice([-1, 0, 1], size=5000, p=[0.05, 0.88, 0.07])
    found, error = rows_test([rows], True), rows.std() / np.sqrt(len(rows))
    assert found.error == pytest.approx(error)
    assert found.half == pytest.approx(1.96 * error, rel=0.04)
    assert found.p == pytest.approx(2 * stats.norm.sf(rows.mean() / error), abs=0.01)


@pytest.mark.parametrize("differing", [1, 4, 7, 10, 20, 60])
def test_of_one_seed_p_is_mcnemars_and_never_below_the_exact_one(differing):
    for better in range(differing + 1):
        rows = np.repeat([1, -1, 0], [better, differing - better, 400 - differing])
        exact, found = stats.binomtest(better, differing).pvalue, rows_test([rows], True).p
        assert found == pytest.approx(exact, abs=0.025)
        assert found >= exact or exact > 0.2


def test_a_row_that_is_right_for_all_seeds_is_one_row():
    rows = np.repeat([1, 0], [7, 393])
    assert rows_test([rows] * 5, True).p == pytest.approx(rows_test([rows], True).p)
    clients = rows * np.repeat([0.3, 0.5, 0.1], [3, 4, 393])  # shares of models that are right
    assert rows_test([clients], True).p > stats.binomtest(7, 7).pvalue


def test_hundreds_of_comparisons_have_no_least_p():
    rows = np.repeat([1, 0], [300, 700])
    assert rows_test([rows], True).p < 1e-9


def test_rows_of_several_seeds_are_drawn_together_where_they_are_the_same_rows():
    rows = np.random.default_rng(0).choice([-1, 0, 1], size=2000, p=[0.1, 0.7, 0.2])
    together, apart = rows_test([rows, rows, rows], True), rows_test([rows, rows, rows], False)
    assert together.half == pytest.approx(1.96 * rows.std() / np.sqrt(2000), rel=0.04)
    assert apart.half == pytest.approx(together.half / np.sqrt(3), rel=0.04)
    assert apart.error == pytest.approx(together.error / np.sqrt(3))


def test_without_a_real_difference_few_are_found():
    rng = np.random.default_rng(1)
    found = [rows_test([rng.choice([-1, 0, 1], 400, p=[0.1, 0.8, 0.1])], True).p < 0.05 for _ in range(1000)]
    assert 10 <= sum(found) <= 50


def test_the_larger_p_of_both_tests_counts_and_the_wider_interval():
    right = [np.arange(1000) < 1000 * share for share in ONE], [np.arange(1000) < 1000 * share for share in TWO]
    found = difference(sample(ONE, right[0]), sample(TWO, right[1]))
    assert found.p == max(found.p_seeds, found.p_rows, found.p_both) == found.p_seeds
    assert found.half == seeds_test(ONE - TWO).half
    assert found.mean == pytest.approx(0.015)


def test_both_sources_of_error_add_up_by_welch_and_satterthwaite():
    right = [np.arange(1000) < 1000 * share for share in ONE], [np.arange(1000) < 1000 * share for share in TWO]
    found = difference(sample(ONE, right[0]), sample(TWO, right[1]))
    rows = np.mean(right[0], axis=0) - np.mean(right[1], axis=0)
    seeds, tested = np.var(ONE - TWO, ddof=1) / 4, rows.var() / 1000
    freedom = (seeds + tested) ** 2 / (seeds**2 / 3)  # that of the rows is as good as infinite
    error = np.sqrt(seeds + tested)
    assert found.p_both == pytest.approx(2 * stats.t.sf(0.015 / error, freedom))


def test_other_test_rows_for_each_seed_are_in_the_seeds_differences_already():
    right = [np.arange(1000) < 1000 * share for share in ONE], [np.arange(1000) < 1000 * share for share in TWO]
    others = [str(seed) for seed in range(4)]
    assert difference(sample(ONE, right[0], others), sample(TWO, right[1], others)).p_both is None


def test_of_methods_that_are_equally_good_few_are_told_apart_by_seeds_and_rows():
    rng, found = np.random.default_rng(2), 0
    for _ in range(300):  # each row suits one of the two methods, each seed is luckier for one
        chances = np.clip(0.8 + rng.normal(0, [[[0.2]], [[0.2]]], (2, 1, 500)) + rng.normal(0, 0.01, (2, 5, 1)), 0, 1)
        one, two = rng.random((2, 5, 500)) < chances
        told = difference(sample(one.mean(axis=1), list(one)), sample(two.mean(axis=1), list(two)))
        found += told.p < 0.05
    assert 1 <= found <= 20


def test_methods_that_do_not_depend_on_the_seed_are_told_apart_by_their_test_rows_alone():
    one, two = np.arange(500) < 460, np.arange(500) < 455
    found = difference(sample([0.92] * 3, [one] * 3), sample([0.91] * 3, [two] * 3))
    assert found.p_seeds is None
    assert 0.01 < found.p < 0.1


def test_one_seed_has_the_test_over_rows_and_without_them_none_at_all():
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
