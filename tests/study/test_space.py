"""What a study tries of a row: as many points for every row, by a draw that another day repeats."""

import itertools
from collections import Counter

import numpy as np
import pytest

from cachefl_jax.config import changed, rows_of
from cachefl_jax.config.rows import row_of
from cachefl_jax.errors import UsageError
from cachefl_jax.methods.method import Choice
from cachefl_jax.study.plan import study_of
from cachefl_jax.study.space import candidates, in_balance, space_of
from experiments.configs import digits

PROBE = "tests/methods/linear_probe.py:probe"


def drawn(word: str, count: int = 12, **changes) -> list:
    config = changed(digits.get_config(), {"compare": (word, "cachefl", PROBE), "overrides": (), **changes})
    row = next(row for row in rows_of(config) if row[1:] == row_of(config.method, word)[1:])
    return list(itertools.islice(candidates(config, row), count))


@pytest.mark.parametrize("word", ["cachefl", "cachefl@alone", "cachefl@centralized", PROBE])
def test_every_trained_row_has_its_budget_of_different_points_the_config_as_it_is_first(word):
    points = drawn(word)
    assert [point.number for point in points] == list(range(12))
    assert len({tuple(point.values.items()) for point in points}) == 12
    config = digits.get_config()
    assert points[0].values["local.learning_rate"] == config.local.learning_rate
    assert drawn(word) == points
    assert drawn(word, seed=1)[1:] != points[1:]


def test_regimes_of_a_method_are_tried_at_the_same_points():
    assert drawn("cachefl") == drawn("cachefl@alone") == drawn("cachefl@centralized")


def test_a_rows_own_value_is_the_config_as_it_is():
    first, *_ = drawn("cachefl", overrides=("cachefl: local.learning_rate=0.5",))
    assert first.values["local.learning_rate"] == 0.5


def test_a_small_space_is_tried_whole_and_zero_shot_has_none():
    assert [point.values for point in drawn("zero_shot")] == [{}]
    round_0 = drawn("cachefl@round_0", 1000)
    assert {field for point in round_0 for field in point.values} == {"cache.alpha", "cache.beta"}
    sizes = [len(choice.values) for choice in space_of(row_of("cachefl", "cachefl@round_0"))]
    assert len(round_0) == (sizes[0] + 1) * (sizes[1] + 1)  # the digits' own alpha and beta are none of the choices


def test_few_points_try_every_rate_with_every_optimizer_and_every_other_value_about_as_often():
    points = [point.values for point in drawn("cachefl")]
    assert len({(values["local.optimizer"], values["local.learning_rate"]) for values in points}) == 12
    for field, different in (("cache.alpha", 5), ("cache.beta", 3)):
        often = Counter(values[field] for values in points)
        assert len(often) == different
        assert max(often.values()) - min(often.values()) <= 2


def test_all_points_of_a_space_are_tried_once_the_first_of_the_grid_first():
    space = [Choice("a", (1, 2)), Choice("local.learning_rate", (1, 2, 3))]
    points = list(in_balance(space, np.random.default_rng(0)))
    assert points[0] == (0, 0)
    assert sorted(points) == list(itertools.product(range(2), range(3)))
    assert list(in_balance([], np.random.default_rng(0))) == [()]


def test_a_method_that_says_nothing_of_its_search_is_offered_both_optimizers_and_rates():
    fields = [choice.field for choice in space_of(row_of("cachefl", PROBE))]
    assert fields == ["local.optimizer", "local.learning_rate"]


@pytest.mark.parametrize(
    ("search", "told"),
    [
        (
            '(Choice("mine.blnd", (0.5,)),)',
            r"the search of .*mine.py:mine: got mine.blnd; allowed: rounds, .*mine.blend",
        ),
        ('(Choice("data.shots", (1, 2)),)', "got data.shots; allowed: rounds, "),
        (
            '(Choice("mine.blend", (0.5, 1.75)),)',
            "mine.blend: got 1.75; allowed: a number between 0 and 1; mend: as told",
        ),
        ('(Choice("mine.blend", ("a", 0.5)),)', "mine.blend: got a; allowed: a number between 0 and 1"),
        ('(Choice("mine.blend", 0.5),)', r"got .*0.5.*; allowed: a tuple of cachefl_jax.methods.Choice"),
        ('(("mine.blend", (0.5, 0.7)),)', r"got .*0.7.*; allowed: a tuple of cachefl_jax.methods.Choice"),
        ('Choice("mine.blend", (0.5, 0.7))', r"allowed: a tuple of cachefl_jax.methods.Choice"),
    ],
)
def test_a_search_that_could_not_be_tried_is_refused_before_anything_is(tmp_path, search, told):
    (tmp_path / "mine.py").write_text(
        "from cachefl_jax.config import Field\nfrom cachefl_jax.config.ranges import between\n"
        "from cachefl_jax.methods import Choice\nfrom cachefl_jax.methods.linear_probe import linear_probe\n"
        "field = Field('mine.blend', 0.5, 'share', *between(0, 1), 'as told')\n"
        f"mine = linear_probe._replace(fields=(*linear_probe.fields, field), search={search})"
    )
    with pytest.raises(UsageError, match=told):
        study_of(changed(digits.get_config(), {"method": f"{tmp_path}/mine.py:mine"}), [{}])


def test_the_bound_of_private_rounds_is_a_choice_of_each_row_where_it_is_not_found_on_the_way():
    private = {"privacy.mechanism": "gaussian", "aggregation.name": "uniform"}
    bounds = {point.values.get("privacy.clip_norm") for point in drawn("cachefl", **private)}
    assert bounds == {0.01, 0.03, 0.1, 0.3, 1.0}
    for changes in ({}, private | {"privacy.quantile": 0.5}):
        assert not any("privacy.clip_norm" in point.values for point in drawn("cachefl", **changes))
    assert not any("privacy.clip_norm" in point.values for point in drawn("cachefl@alone", **private))
