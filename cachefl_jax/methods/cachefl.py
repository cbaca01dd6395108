"""CacheFL: a cache of keys drawn on the server, tuned by the clients and averaged.

    A[b,n,k] = exp(-beta (1 - f[b] . key[n,k]))             affinity of a feature to a key
    z[b,n]   = s f[b] . text[n] + alpha sum_k A[b,n,k]      logits

The cache's values are one-hot labels, so their product with the affinities is the sum over a class's own keys:
keys lie as [N, K, D] and no [NK, N] value matrix exists. Only the keys are trained; they start on the unit sphere and
are never put back on it. Sources: CacheFL, arXiv 2505.05130; the formula is Tip-Adapter-F's, arXiv 2111.03930, eq. 3-6.

Axis letters: B batch, N classes, K keys a class, D features.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.config import FIELDS
from cachefl_jax.methods.method import Choice, Method, Restored, Rows, Server, text_logits, text_of
from cachefl_jax.methods.on_features import rates


class Cache(NamedTuple):
    """All that is trained and all that travels."""

    keys: jax.Array  # [N, K, D] float32


class Frozen(NamedTuple):
    """What every client holds and nobody trains."""

    text: jax.Array  # [N, D] class weights, L2-normalised rows; zeros where a bank has no text features
    logit_scale: jax.Array  # []
    alpha: jax.Array  # [] weight of the cache's logits (residual ratio)
    beta: jax.Array  # [] sharpness of the affinities


def init(server: Server, config: ConfigDict) -> Cache:
    """The cache at round 0: the features of the server's images are its keys."""
    del config
    return Cache(keys=server.synthetic)


def freeze(server: Server, config: ConfigDict) -> Frozen:
    return Frozen(*text_of(server), np.float32(config.cache.alpha), np.float32(config.cache.beta))


def cosines(cache: Cache, features: jax.Array) -> jax.Array:
    """f[b] . key[n,k], [B, N, K]; a cosine where both lie on the unit sphere."""
    return jnp.einsum("bd,nkd->bnk", features, cache.keys)


def cache_logits(cosines: jax.Array, frozen: Frozen) -> jax.Array:
    """alpha sum_k A[b,n,k], [B, N]: an affinity is 1 on a key and falls off the faster the larger beta is."""
    affinities = jnp.exp(-frozen.beta * (1 - cosines))
    return frozen.alpha * affinities.sum(axis=2)


def logits_of_cosines(cosines: jax.Array, frozen: Frozen, rows: Rows) -> jax.Array:
    """z[b,n], [B, N], of cosines [B, N, K]."""
    return text_logits(frozen, rows) + cache_logits(cosines, frozen)


def logits(cache: Cache, frozen: Frozen, rows: Rows) -> jax.Array:
    """z[b,n], [B, N]."""
    return logits_of_cosines(cosines(cache, rows.features), frozen, rows)


def artefact(cache: Cache, frozen: Frozen) -> tuple[dict[str, Any], dict[str, Any]]:
    """The keys, and the numbers that the formula needs besides."""
    numbers = {name: getattr(frozen, name) for name in ("alpha", "beta", "logit_scale")}
    return {"keys": cache.keys}, {name: shortest(value) for name, value in numbers.items()}


def restore(arrays: dict[str, Any], told: dict[str, Any]) -> Restored:
    """The cache that `artefact` wrote."""
    numbers = (np.float32(told[name]) for name in ("logit_scale", "alpha", "beta"))
    return Restored(logits, Cache(arrays["keys"]), Frozen(arrays["text"], *numbers))


def shortest(value: jax.Array) -> float:
    """A float32 in the fewest digits that read back as the same float32."""
    return float(str(np.float32(value)))


cachefl = Method(
    label="CacheFL",
    init=init,
    logits=logits,
    freeze=freeze,
    linear=logits_of_cosines,
    inputs=("features", "text_logits"),
    search=(
        *rates(3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
        Choice("cache.alpha", (1.0, 3.0, 10.0, 30.0)),
        Choice("cache.beta", (1.0, 5.0)),
    ),
    fields=tuple(field for field in FIELDS if field.name.startswith("cache.")),
    artefact=artefact,
    restore=restore,
    file="cache.safetensors",
    explanation="tuned at the clients, averaged by the server",
    untrained="cache at round 0",
    privacy="A client sends tuned keys and no image, and that is all that the plain method gives. The gradient of a "
    "single sample points along its feature, and its signs tell the label; that of a batch lies in the space that its "
    "features span. Secure aggregation and clipping with noise would hide them; how well, only a measured leak says.",
)
