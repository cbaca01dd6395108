"""The sentence that applies, and no other."""

import pytest

from cachefl_jax.poc.samples import reason
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
        "recommended": "ridge", "own": "cachefl", "rows": rows, "seeds": [0, 1, 2],
        "data": {"test": 1234, "classes": 4, "class_names": ["ant", "bee", "cow", "doe"]},
        "config": {"clip": {"checkpoint": "/released/clip"}},
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
    found = difference(2.4, EQUAL) | {"p": 0.086, "p_single": 0.0283, "comparisons": 4}
    (line, _) = verdict(facts(1.2, EQUAL, cachefl=found))["more"]
    assert line.endswith("(+2.4 ± 2.0 points; p = 0.028 by itself, 0.086 adjusted for 4 comparisons).")


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ({"points": 2.4, "p": 0.086, "p_single": 0.0283}, "p = 0.028 by itself, 0.086 adjusted for 4 comparisons"),
        ({"points": 2.1, "p": 0.2, "p_single": 0.051}, "p = 0.051"),  # the tests' own p, whatever the family
        ({"points": 1.9, "p": 0.2, "p_single": 0.06}, ""),  # 0 is in the interval
        ({"points": 9.0, "p": 0.01, "p_single": 0.001, "verdict": BETTER}, ""),
        ({"points": 1.99, "p": 0.049, "p_single": 0.049, "verdict": BETTER}, "p = 0.049"),
        ({"points": None, "half": None, "p": None, "p_single": None, "verdict": UNKNOWN}, ""),
    ],
)
def test_a_verdict_that_its_interval_contradicts_gives_the_p_that_decides(found, told):
    assert reason({"half": 2.0, "verdict": EQUAL, "comparisons": 4} | found) == told


def of_encoder(checkpoint: str, names: list[str], accuracy: float, error: float = 0.02) -> list[str]:
    """The caveat of a decision whose encoder has this accuracy zero-shot, of four classes."""
    told = facts(12.0, BETTER)
    told["rows"]["zero_shot"] = {"label": "zero-shot CLIP", "test_accuracy": accuracy, "error": error}
    told["data"]["class_names"], told["config"]["clip"]["checkpoint"] = names, checkpoint
    return verdict(told)["caveat"]


def test_where_the_encoder_does_not_know_the_images_the_verdict_is_said_to_be_about_it():
    photographs, digits = ["ant", "bee", "cow", "doe"], ["0", "one", "digit 2", "three"]
    assert of_encoder("/released/clip", photographs, 0.6) == []
    assert of_encoder("pocket", digits, 0.9) == []
    chance = of_encoder("/released/clip", photographs, 0.28)  # 28% and twice 2%, of 25% by chance
    assert (
        "28.0% ± 3.9 of the test images right, within its error no more than guessing among 4 classes (25.0%)"
        in chance[0]
    )
    assert of_encoder("/released/clip", photographs, 0.30) == []
    pocket = of_encoder("pocket", photographs, 0.6)
    assert pocket[0] == "The encoder is the embedded pocket CLIP, which has learnt digits and nothing else."
    for told in (chance, pocket):
        assert told[-2].startswith("So this verdict is about this encoder")
        assert "--config.clip.checkpoint=DIR" in told[-1]
    assert len(of_encoder("pocket", photographs, 0.1)) == 4


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
