"""Prompts and seeds: templates cycle, seeds belong to a class's name."""

import pytest

from cachefl_jax.errors import UsageError
from cachefl_jax.synthesis import class_prompts, image_seeds


def test_templates_take_turns():
    prompts = class_prompts(("cat", "dog"), ("a {}.", "one {}."), 3)
    assert prompts == (("a cat.", "one cat.", "a cat."), ("a dog.", "one dog.", "a dog."))


def test_other_braces_are_plain_text():
    assert class_prompts(("{b}",), ("{a} {}",), 1) == (("{a} {b}",),)


@pytest.mark.parametrize("templates", [(), "a {}.", ("a photo.",), ("{} and {}",), ("a {}.", "no slot")])
def test_templates_without_exactly_one_slot_are_refused(templates):
    with pytest.raises(UsageError, match=r"synthesis\.prompts"):
        class_prompts(("cat",), templates, 1)


def test_no_images_are_refused():
    with pytest.raises(UsageError, match=r"synthesis\.images_per_class"):
        class_prompts(("cat",), ("a {}.",), 0)


def test_seeds_follow_the_name_not_the_order():
    cat, dog = image_seeds(("cat", "dog"), 3, seed=5)
    assert image_seeds(("dog", "bird", "cat"), 4, seed=5)[2][:3] == cat
    assert image_seeds(("dog",), 3, seed=5)[0] == dog


def test_seeds_are_distinct():
    rows = [*image_seeds(("cat", "dog"), 50, seed=5), *image_seeds(("cat", "dog"), 50, seed=6)]
    seeds = [seed for row in rows for seed in row]
    assert len(set(seeds)) == 200
    assert all(0 <= seed < 2**48 for seed in seeds)
