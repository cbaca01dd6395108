"""Numbers of an update as integers modulo 2^bits, whose sums no order changes.

A client's number u counts by its weight w, which the server has told it: with the clipping range R and S = 2^(bits-2),
v = u w S / R is rounded at random to one of its two neighbours so that its expectation is v (Konecny et al., arXiv
1610.05492). Weights add up to 1, so that |sum v| <= S + M for M clients: no sum ever leaves the half range 2^(bits-1).
"""

import jax
import jax.numpy as jnp

from cachefl_jax.privacy.secure.graph import Settings


def full_scale(settings: Settings) -> float:
    """S, what a mean of R becomes."""
    return 2.0 ** (settings.bits - 2)


def encode(settings: Settings, numbers: jax.Array, scale: jax.Array, key: jax.Array) -> jax.Array:
    """uint32 below 2^bits: finite `numbers` times `scale`, rounded at random."""
    # Without it a compiler may fuse the product with what follows, and round otherwise in another program.
    scaled = jax.lax.reduce_precision(numbers.astype(jnp.float32) * scale, 8, 23)
    low = jnp.floor(scaled)
    up = jax.random.uniform(key, numbers.shape) < scaled - low
    return (low.astype(jnp.int32) + up).astype(jnp.uint32) & jnp.uint32(settings.modulus_mask)


def decode(settings: Settings, words: jax.Array) -> jax.Array:
    """int32 of sums that may have run over 2^bits: words past the half range are negative."""
    half = jnp.uint32(2 ** (settings.bits - 1))
    inside = (words + half) & jnp.uint32(settings.modulus_mask)
    return inside.astype(jnp.int32) - half.astype(jnp.int32)
