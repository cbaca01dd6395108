"""The cache of CacheFL with another part of it trained: more than its keys, or far less.

    z[b,n] = s f[b] . text[n] + alpha sum_j A[b,j] V[j,n],    A[b,j] = exp(-beta (1 - f[b] . key[j]))

    cache_values    keys and values: j runs over all N K keys; V starts as their one-hot labels, which Tip-Adapter-F
                    (arXiv 2111.03930) keeps
    cache_low_rank  key = key0 + L P, L [N, K, R] from zeros, P [R, D] drawn at random (LoRA, 2106.09685)
    cache_vector    key[n,k] = key0[n,k] + v[n]: one vector a class, from zeros

The mean over clients of L P is not the product of the means of L and P. With cache_low_rank.projection=frozen P stays
as it was drawn, and averaging is exact (FFA-LoRA, 2403.12313). The vector of a class multiplies its cache logits at
round 0 by exp(beta f . v[n]), so that it meets rows in f . v[n] alone: it trains on coefficients.

Axis letters: B batch, N classes, K keys a class, D features, R rank.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.config import Field
from cachefl_jax.config.ranges import CHOOSE, RAISE, at_least, one_of
from cachefl_jax.methods.cachefl import Cache, cachefl, cosines, logits_of_cosines, shortest
from cachefl_jax.methods.method import Rows, Server, text_logits
from cachefl_jax.methods.on_features import dense


class Frozen(NamedTuple):
    """What every client holds and nobody trains."""

    text: jax.Array  # [N, D] class weights; zeros where a bank has no text features
    logit_scale: jax.Array  # []
    alpha: jax.Array  # [] weight of the cache's logits
    beta: jax.Array  # [] sharpness of the affinities
    keys: jax.Array  # [N, K, D] at round 0
    projection: jax.Array | None = None  # P at round 0, [R, D]


def freeze(server: Server, config: ConfigDict) -> Frozen:
    return Frozen(*cachefl.freeze(server, config), keys=server.synthetic)


def numbers(frozen: Frozen) -> dict[str, float]:
    """What the formula needs beside arrays."""
    return {name: shortest(getattr(frozen, name)) for name in ("alpha", "beta", "logit_scale")}


class KeysAndValues(NamedTuple):
    keys: jax.Array  # [N, K, D]
    values: jax.Array  # V, [N K, N]


def keys_and_values(server: Server, config: ConfigDict) -> KeysAndValues:
    """The server's images as keys, their one-hot labels as values."""
    del config
    classes, per_class, _ = server.synthetic.shape
    return KeysAndValues(server.synthetic, np.repeat(np.eye(classes, dtype=np.float32), per_class, axis=0))


def value_logits(params: KeysAndValues, frozen, rows: Rows) -> jax.Array:
    """z[b,n], [B, N]."""
    affinities = jnp.exp(-frozen.beta * (1 - cosines(Cache(params.keys), rows.features)))
    return text_logits(frozen, rows) + frozen.alpha * affinities.reshape(len(affinities), -1) @ params.values


cache_values = cachefl._replace(
    label="cache of keys and values",
    init=keys_and_values,
    logits=value_logits,
    linear=None,
    artefact=lambda params, frozen: (params._asdict(), numbers(frozen)),
    restore=None,
    file="model.safetensors",
    explanation="a cache whose values are tuned with its keys",
    untrained="",
    privacy=f"{cachefl.privacy} The values' change tells directly how often a client's labels went with each key.",
)


class Factors(NamedTuple):
    left: jax.Array  # L, [N, K, R]
    right: jax.Array | None  # P, [R, D]; None where it is frozen


def factors(server: Server, config: ConfigDict) -> Factors:
    """L and P at round 0: their product is 0."""
    projection = freeze_low_rank(server, config).projection
    left = np.zeros((*server.synthetic.shape[:2], len(projection)), np.float32)
    return Factors(left, projection if config.cache_low_rank.projection == "trained" else None)


def freeze_low_rank(server: Server, config: ConfigDict) -> Frozen:
    """With P as the seed draws it: rows of length about 1."""
    (drawn,) = dense(config, (config.cache_low_rank.rank, server.synthetic.shape[-1]))
    return freeze(server, config)._replace(projection=np.float32(np.sqrt(3)) * drawn)


def projection_of(params: Factors, frozen: Frozen) -> jax.Array:
    """P, [R, D]."""
    return frozen.projection if params.right is None else params.right


def low_rank_logits(params: Factors, frozen: Frozen, rows: Rows) -> jax.Array:
    """z[b,n], [B, N]: f . key0 + (P f) . L, so that no key is ever formed."""
    projected = rows.features @ projection_of(params, frozen).T
    moved = jnp.einsum("br,nkr->bnk", projected, params.left)
    return logits_of_cosines(cosines(Cache(frozen.keys), rows.features) + moved, frozen, rows)


def low_rank_artefact(params: Factors, frozen: Frozen) -> tuple[dict[str, Any], dict[str, Any]]:
    """The keys that the factors make, and the formula's numbers."""
    return {"keys": frozen.keys + params.left @ projection_of(params, frozen)}, numbers(frozen)


# fmt: off
LOW_RANK_FIELDS = (
    Field("cache_low_rank.rank", 8, "rank of the change of the keys", *at_least(1), RAISE),
    Field("cache_low_rank.projection", "trained", "the factor of the change that keys share, [rank, features]: trained "
          "and averaged, or as it was drawn, which averages without error", *one_of("trained", "frozen"), CHOOSE),
)
# fmt: on
cache_low_rank = cachefl._replace(
    label="low-rank cache",
    init=factors,
    logits=low_rank_logits,
    freeze=freeze_low_rank,
    linear=None,
    fields=(*cachefl.fields, *LOW_RANK_FIELDS),
    artefact=low_rank_artefact,
    file="model.safetensors",
    explanation="a cache whose keys change in low rank",
    untrained="",
    privacy="A client sends two factors of a change of the keys. They tell no more than the keys would, and of a "
    "feature only its part along the rank's directions; with a trained projection these turn to the client's features.",
)


def vectors(server: Server, config: ConfigDict) -> np.ndarray:
    """v at round 0, [N, D]."""
    del config
    return np.zeros_like(server.text)


def vector_scores_logits(scores: jax.Array, frozen: Frozen, rows: Rows) -> jax.Array:
    """z[b,n], [B, N], of f[b] . v[n], [B, N]."""
    return logits_of_cosines(cosines(Cache(frozen.keys), rows.features) + scores[:, :, None], frozen, rows)


def vector_logits(vectors: jax.Array, frozen: Frozen, rows: Rows) -> jax.Array:
    """z[b,n], [B, N]."""
    return vector_scores_logits(rows.features @ vectors.T, frozen, rows)


cache_vector = cachefl._replace(
    label="cache with a vector a class",
    init=vectors,
    logits=vector_logits,
    freeze=freeze,
    linear=vector_scores_logits,
    artefact=lambda params, frozen: ({"keys": frozen.keys + params[:, None]}, numbers(frozen)),
    file="model.safetensors",
    explanation="a cache in which the keys of a class move together",
    untrained="",
    privacy="A client sends one vector a class. The gradient of a single sample points along its feature, and its "
    "signs tell the label, as those of CacheFL's keys do.",
)
