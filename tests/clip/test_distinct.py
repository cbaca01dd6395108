"""Classes that cannot be told apart are found whatever the order, and rounding does not hide them."""

import numpy as np
import pytest

from cachefl_jax.clip.distinct import check_texts, check_weights, equal_pairs
from cachefl_jax.errors import UsageError


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_equal_rows_are_found_through_rounding_and_near_ones_are_not():
    rng = np.random.default_rng(0)
    weights = unit(rng.normal(size=(500, 64)))
    weights[77] = unit(weights[[300]].astype(np.float64) * (1 + 1e-7 * rng.normal(size=(1, 64))))[0]
    weights[10] = unit(weights[[20]] + 1e-4 * rng.normal(size=(1, 64)))[0]
    assert equal_pairs(weights) == [(77, 300)]


def test_of_many_equal_rows_the_first_few_are_named_and_all_counted():
    names = [f"class {number}" for number in range(40)]
    with pytest.raises(UsageError, match="equal text features for class 0 = class 1, .* and 36 more; allowed"):
        check_weights(np.full((40, 16), 0.25, np.float32), names)


def test_texts_are_compared_by_all_their_tokens():
    ids = np.arange(24).reshape(4, 2, 3)
    check_texts(ids, "abcd")
    ids[3] = ids[1]
    with pytest.raises(UsageError, match="the same texts to the tokenizer for b = d; allowed"):
        check_texts(ids, "abcd")
