"""Attention: the fused one where it is asked for and can be, and the same numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cachefl_jax.clip import attention as module
from cachefl_jax.clip.attention import LONG, attention, fused_attention

pytestmark = pytest.mark.quick


def inputs(tokens: int, dtype) -> tuple[jax.Array, ...]:
    keys = jax.random.split(jax.random.key(1), 3)
    return tuple(jax.random.normal(key, (2, tokens, 4, 16)).astype(dtype) for key in keys)


def explicit(query, key, value, causal: bool) -> np.ndarray:
    query, key, value = (np.asarray(array, np.float64) for array in (query, key, value))
    scores = np.einsum("bthd,bshd->bhts", query, key) / np.sqrt(query.shape[-1])
    scores = np.where(np.tril(np.ones(scores.shape[-2:], bool)) | (not causal), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("bhts,bshd->bthd", weights / weights.sum(-1, keepdims=True), value)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 1e-5), (jnp.bfloat16, 2e-2)])
@pytest.mark.parametrize("fused", [False, True])
def test_attention_is_the_formula_and_the_written_one_stands_in_where_cudnn_is_not(dtype, tolerance, causal, fused):
    given = inputs(LONG, dtype)
    with fused_attention(fused):
        found = attention(*given, causal=causal)
    assert found.dtype == dtype
    np.testing.assert_allclose(np.asarray(found, np.float64), explicit(*given, causal), rtol=0, atol=tolerance)


def test_only_long_sequences_in_bfloat16_are_fused_and_only_where_it_is_asked_for(monkeypatch):
    asked, real = [], jax.nn.dot_product_attention

    def portable(query, key, value, *, is_causal, implementation):
        asked.append(implementation)
        return real(query, key, value, is_causal=is_causal, implementation="xla")

    monkeypatch.setattr(module.jax.nn, "dot_product_attention", portable)
    for tokens, dtype in ((LONG, jnp.float32), (LONG - 1, jnp.bfloat16)):
        with fused_attention():
            attention(*inputs(tokens, dtype))
    attention(*inputs(LONG, jnp.bfloat16))
    assert asked == []
    for causal in (False, True):
        with fused_attention():
            found = attention(*inputs(LONG, jnp.bfloat16), causal=causal)
        expected = explicit(*inputs(LONG, jnp.bfloat16), causal)
        np.testing.assert_allclose(np.asarray(found, np.float64), expected, rtol=0, atol=2e-2)
    assert asked == ["cudnn"] * 2
