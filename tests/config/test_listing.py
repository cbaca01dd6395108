"""The fields as they are printed: all of them, or those whose names begin with a word."""

import ast

import pytest

from cachefl_jax.config.fields import FIELDS
from cachefl_jax.config.listing import listing, shown
from cachefl_jax.errors import UsageError


def test_every_field_is_listed_with_default_meaning_and_range():
    text = listing()
    for field in FIELDS:
        assert f"--config.{field.name}={shown(field.default)}\n    {field.meaning}\n    {field.allowed}" in text


def test_a_word_lists_the_fields_that_begin_with_it():
    assert [line for line in listing(["rounds"]).splitlines() if line.startswith("--")] == ["--config.rounds=20"]
    local = [line for line in listing(["local"]).splitlines() if line.startswith("--")]
    assert len(local) == sum(field.name.startswith("local.") for field in FIELDS)
    assert listing(["data.shots"]).count("--config.") == 1
    with pytest.raises(UsageError, match=r"command line: got sho; .*seed, rounds, .*data, clip"):
        listing(["sho"])


def test_a_default_is_written_as_a_command_line_takes_it():
    assert shown(("train", "", "test")) == "\"('train','','test')\""
    assert ast.literal_eval(shown(("one", "two")).strip('"')) == ("one", "two")
