"""CacheFL: a cache of keys drawn on the server, tuned by the clients and averaged.

    A[b,n,k] = exp(-beta (1 - f[b] . key[n,k]))             affinity of a feature to a key
    z[b,n]   = s f[b] . text[n] + alpha sum_k A[b,n,k]      logits

The cache's values are one-hot labels, so their product with the affinities is the sum over a class's own keys:
keys lie as [N, K, D] and no [NK, N] value matrix exists. Only the keys are trained; they start on the unit sphere and
are never put back on it. Sources: CacheFL, arXiv 2505.05130; the formula is Tip-Adapter-F's, arXiv 2111.03930, eq. 3-6.

Axis letters: B batch, N classes, K keys a class, D features.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from cachefl_jax.methods.method import Frozen, Method


class Cache(NamedTuple):
    """All that is trained and all that travels."""

    keys: jax.Array  # [N, K, D] float32


def init(synthetic: jax.Array) -> Cache:
    """The cache at round 0: the synthetic images' features [N, K, D] are its keys."""
    return Cache(keys=synthetic)


def cosines(cache: Cache, features: jax.Array) -> jax.Array:
    """f[b] . key[n,k], [B, N, K]; a cosine where both lie on the unit sphere."""
    return jnp.einsum("bd,nkd->bnk", features, cache.keys)


def votes(cosines: jax.Array, frozen: Frozen) -> jax.Array:
    """alpha sum_k A[b,n,k], [B, N]: an affinity is 1 on a key and falls off the faster the larger beta is."""
    affinities = jnp.exp(-frozen.beta * (1 - cosines))
    return frozen.alpha * affinities.sum(axis=2)


cachefl = Method(init, cosines, votes, linear=True)
