"""Whether a run's settings are told to be far from good."""

import pytest

from cachefl_jax.config import Row
from cachefl_jax.simulation.advice import advice

OWN = Row("cachefl", "cachefl", "federated")


@pytest.mark.parametrize(
    ("own", "other", "rows", "told"),
    [(0.5, 0.6, 1000, True), (0.5, 0.6, 100, False), (0.6, 0.5, 1000, False), (None, 0.6, 1000, False),
     (0.5, None, 1000, False), (0.5, 0.6, 0, False), (0.0, 1.0, 1, False)],
)  # fmt: skip
def test_settings_are_doubted_where_another_row_is_clearly_ahead_on_validation_rows(own, other, rows, told):
    entries = {"cachefl": {"validation_accuracy": own, "rounds": 20, "label": "CacheFL"}}
    entries["zero_shot"] = {"validation_accuracy": other, "label": "zero-shot CLIP"}
    said = advice(entries, OWN, rows)
    assert bool(said) is told
    if told:
        assert "CacheFL has 50.0% and zero-shot CLIP 60.0%" in said[0]


def test_before_any_round_no_setting_is_doubted():
    entries = {"cachefl": {"validation_accuracy": 0.1, "rounds": 0}, "zero_shot": {"validation_accuracy": 0.9}}
    assert advice(entries, OWN, 1000) == []


@pytest.mark.parametrize(("method", "command"), [("cachefl", "sweep"), ("/home/me/probe.py:probe", "study")])
def test_the_command_that_is_advised_is_one_that_tunes_the_method(method, command):
    entries = {"own": {"validation_accuracy": 0.5, "rounds": 20}, "zero_shot": {"validation_accuracy": 0.9}}
    assert f"The {command} command" in advice(entries, Row("own", method, "federated"), 1000)[0]
