"""Attention of all towers: written out, or fused by cuDNN where that is asked for and there.

Axis letters: B batch, T tokens of queries, S of keys.
"""

import contextlib
import contextvars
from collections.abc import Iterator

import jax
import jax.numpy as jnp

LONG = 128  # tokens from which on fusing pays: with the 50 of a ViT-B/32 an H200 gained nothing
fusing = contextvars.ContextVar("fusing", default=False)


@contextlib.contextmanager
def fused_attention(wanted: bool = True) -> Iterator[None]:
    """The context in which a tower is traced whose attention cuDNN shall compute, where it can: of long sequences in
    bfloat16, without gradients. Scores of all pairs of tokens then never reach the memory."""
    token = fusing.set(wanted)
    try:
        yield
    finally:
        fusing.reset(token)


def attention(query: jax.Array, key: jax.Array, value: jax.Array, *, causal: bool = False) -> jax.Array:
    """Scaled dot-product attention of queries [B, T, heads, d] over keys and values [B, S, heads, d].

    The heads come to the front before the products: XLA's CPU backend is half as fast again that way as with
    `jax.nn.dot_product_attention`, which contracts them where they lie."""
    if fusing.get() and query.dtype == jnp.bfloat16 and query.shape[1] >= LONG:
        # It is refused where there is no cuDNN, or not for these shapes.
        with contextlib.suppress(RuntimeError, NotImplementedError, ValueError):
            return jax.nn.dot_product_attention(query, key, value, is_causal=causal, implementation="cudnn")
    query, key, value = (x.swapaxes(1, 2) for x in (query, key, value))
    scale = query.shape[-1] ** -0.5
    scores = jnp.matmul(query, key.swapaxes(2, 3), preferred_element_type=jnp.float32) * scale
    if causal:
        seen = jnp.tril(jnp.ones(scores.shape[2:], bool))
        scores = jnp.where(seen[None, None], scores, -jnp.inf)
    return (jax.nn.softmax(scores).astype(value.dtype) @ value).swapaxes(1, 2)
