"""The sentence that applies, and no other."""

import pytest

from cachefl_jax.poc.verdict import recommended, verdict
from cachefl_jax.study.statistics import BETTER, EQUAL, UNKNOWN, WORSE


def difference(points: float, found: str, half: float = 2.0) -> dict:
    return {"points": points, "half": half, "p": 0.01, "verdict": found}


def facts(points: float, found: str, **family: dict) -> dict:
    """Of a decision whose recommended row, ridge, is so many points from each site alone."""
    rows = {
        "ridge": {"label": "ridge regression", "test_accuracy": 0.7},
        "cachefl": {"label": "CacheFL", "test_accuracy": 0.6},
        "local_only": {"label": "each site alone", "test_accuracy": 0.7 - points / 100},
    }
    return {
        "recommended": "ridge", "own": "cachefl", "rows": rows, "seeds": [0, 1, 2], "data": {"test": 1234},
        "family": {"local_only": difference(points, found)} | family, "current": {"label": "your current model"},
        "sites": [{"name": "aachen", "gain": difference(3, BETTER)}, {"name": "bonn", "gain": difference(-3, WORSE)},
                  {"name": "celle", "gain": difference(1, EQUAL)}],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("points", "found", "kind", "words"),
    [
        (12.0, BETTER, "better", "is better than each site alone by 12.0 ± 2.0 points: 70.0% against 58.0%"),
        (-5.0, WORSE, "worse", "is worse than each site alone by 5.0 ± 2.0 points: 70.0% against 75.0%"),
        (1.2, EQUAL, "equal", "is no better than each site alone within error: 70.0% against 68.8%, a difference of "
         "+1.2 ± 2.0 points"),
    ],
)  # fmt: skip
def test_a_difference_is_called_what_it_is(points, found, kind, words):
    told = verdict(facts(points, found))
    assert told["kind"] == kind
    assert words in told["sentence"]
    assert "1,234 test images, 3 seeds, 95% interval" in told["sentence"]
    assert (" better than each site alone by" in told["sentence"]) == (found == BETTER)


def test_without_a_comparison_nothing_is_claimed():
    told = verdict(facts(1.0, UNKNOWN))
    assert told["kind"] is None
    assert "better" not in told["sentence"]


def test_todays_model_is_told_of_where_there_is_one():
    with_it = verdict(facts(1.2, EQUAL, current=difference(-4.0, WORSE)))["more"]
    assert "Ridge regression is worse than your current model (-4.0 ± 2.0 points)." in with_it
    assert not any("current model" in line for line in verdict(facts(1.2, EQUAL))["more"])


def test_an_interval_without_0_that_chance_explains_is_said_to_be_so():
    (line, _) = verdict(facts(1.2, EQUAL, cachefl=difference(2.4, EQUAL)))["more"]
    assert line.endswith("(+2.4 ± 2.0 points, which several comparisons at once make by chance).")


def test_sites_that_gain_and_lose_are_named():
    assert verdict(facts(1.2, EQUAL))["more"][-1].endswith("beyond error: aachen; that lose: bonn.")


def test_validation_recommends_and_never_a_row_that_pools_data():
    rows = {
        "cachefl": {"regime": "federated", "validation_accuracy": 0.5, "test_accuracy": 0.9},
        "ridge": {"regime": "federated", "validation_accuracy": 0.6, "test_accuracy": 0.1},
        "features_once": {"regime": "features_once", "validation_accuracy": 0.8, "test_accuracy": 0.9},
        "centralized": {"regime": "centralized", "validation_accuracy": 0.9, "test_accuracy": 0.9},
    }
    assert recommended(rows, "cachefl") == "ridge"
    for row in rows.values():
        row["validation_accuracy"] = None
    assert recommended(rows, "cachefl") == "cachefl"
