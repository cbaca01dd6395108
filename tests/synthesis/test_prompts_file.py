"""Prompts of a file: a list or descriptors for every class of the run, and one line about whatever else it holds."""

import json

import pytest

from cachefl_jax.config import default
from cachefl_jax.errors import UsageError
from cachefl_jax.simulation.server_set import synthesis_request
from cachefl_jax.synthesis.prompts import in_turn
from cachefl_jax.synthesis.prompts_file import described, read_prompts

NAMES, TEMPLATES = ("cat", "sea hen"), ("a photo of a {}.", "one {}")
GOOD = {"sea hen": [" a {} at dusk "], "cat": ["a cat.", "a cat on a roof."]}


@pytest.fixture
def write(tmp_path):
    def write(content):
        path = tmp_path / "prompts.json"
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return path

    return write


def test_every_class_has_its_own_prompts_whatever_the_order(write):
    assert read_prompts(write(GOOD), NAMES, TEMPLATES) == (("a cat.", "a cat on a roof."), ("a sea hen at dusk",))


@pytest.mark.parametrize("content", [{"about": {"model": "x"}, "prompts": GOOD}, {"prompts": GOOD}])
def test_what_a_language_model_left_is_read_as_the_same(write, content):
    assert read_prompts(write(content), NAMES, TEMPLATES) == read_prompts(write(GOOD), NAMES, TEMPLATES)


def test_classes_called_about_and_prompts_are_classes(write):
    content = {"about": ["an about."], "prompts": {"descriptors": ["four legs"]}}
    expected = (("a prompts, which has four legs.",), ("an about.",))
    assert read_prompts(write(content), ("prompts", "about"), ("a {}.",)) == expected


def test_names_may_be_spelled_otherwise(write):
    content = {"Sea_Hen": ["x"], "CAT": ["y"]}
    assert read_prompts(write(content), NAMES, TEMPLATES) == (("y",), ("x",))


def test_each_descriptor_comes_once_before_any_comes_again():
    texts = described("cat", ["a wet nose", "can climb.", "is small"], TEMPLATES)
    assert texts == (
        "a photo of a cat, which has a wet nose.",
        "one cat, which can climb.",
        "a photo of a cat, which is small.",
        "one cat, which has a wet nose.",
        "a photo of a cat, which can climb.",
        "one cat, which is small.",
    )


def test_images_take_their_classes_prompts_in_turn():
    assert in_turn((("a", "b"), ("c",)), 3) == (("a", "b", "a"), ("c", "c", "c"))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"cat": ["x"]}, r"classes missing \(1\): sea hen\); .*mend: add them"),
        (GOOD | {"dog": ["x"]}, r"of no class \(1\): dog\); allowed: the run's 2 classes; mend: take them out"),
        ({"dog": ["x"], "cat": ["y"]}, r"missing \(1\): sea hen; of no class \(1\): dog"),
        (GOOD | {"Cat": ["x"]}, "cat in two spellings"),
        (b'{"cat": ["x"], "cat": ["y"], "sea hen": ["z"]}', "twice: cat"),
        (GOOD | {"cat": []}, r"cat: \[\]\); allowed: one or more prompts in a list"),
        (GOOD | {"cat": {"descriptors": []}}, "one or more"),
        (GOOD | {"cat": {"descriptors": ["x"], "more": 1}}, "one or more"),
        (GOOD | {"cat": "a cat"}, "one or more prompts in a list"),
        (GOOD | {"cat": ["x", 3]}, r"cat: 3\); allowed: texts that are not empty"),
        (GOOD | {"cat": [" "]}, "texts that are not empty"),
        (GOOD | {"cat": {"descriptors": [None]}}, "texts that are not empty"),
        (GOOD | {"cat": ["a\ncat"]}, "on one line, without control"),
        (GOOD | {"cat": ["a \u202ecat"]}, "on one line, without control"),
        (GOOD | {"cat": ["a \ud800cat"]}, "on one line, without control"),
        (GOOD | {"cat": ["cat " * 600]}, r"a text of 2,400 characters\); allowed: texts of at most 2,000"),
        (b"", "Expecting value"),
        (b'{"cat": ["\xff"]}', "utf-8"),
        (b"[" * 100_000, "without end"),
        ([["cat", "x"]], r"list\); allowed: {"),
    ],
)
def test_another_content_is_told_in_one_line(write, content, told):
    with pytest.raises(UsageError, match=rf"^synthesis\.prompts_file: got .*prompts\.json \(.*{told}"):
        read_prompts(write(content), NAMES, TEMPLATES)


@pytest.mark.parametrize("name", ["nothing.json", "."])
def test_a_file_that_is_not_there_is_told(tmp_path, name):
    with pytest.raises(UsageError, match=r"synthesis\.prompts_file.*correct the path"):
        read_prompts(tmp_path / name, NAMES, TEMPLATES)


def test_the_generator_is_asked_for_what_the_file_says(write):
    config = default()
    config.synthesis.images_per_class = 3
    plain = synthesis_request(config, NAMES, TEMPLATES)
    config.synthesis.prompts_file = str(write(GOOD))
    request = synthesis_request(config, NAMES, TEMPLATES)
    assert request.prompts == (("a cat.", "a cat on a roof.", "a cat."), ("a sea hen at dusk",) * 3)
    assert request._replace(prompts=plain.prompts) == plain
