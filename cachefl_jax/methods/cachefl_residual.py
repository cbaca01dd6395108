"""CacheFL whose clients shift the shared keys each in its own way: a personal residual added to all keys of a class.

    key_c[n,k] = key[n,k] + R_c[n]                          of client c
    A[b,n,k]   = exp(-beta (1 - f[b] . key_c[n,k]))         affinity
    z[b,n]     = s f[b] . text[n] + alpha sum_k A[b,n,k]    logits

R_c [N, D] starts at 0, is trained with the keys, and never leaves the client. With `cachefl_residual.rank` r above 0 it
is a product U_c V_c of [N, r] and [r, D], for clients with few rows and runs with many clients: U_c starts at 0, V_c
at Gaussian rows of about length 1, the same at every client, as in LoRA (arXiv 2106.09685). Sources: CacheFL,
2505.05130; a personal part that is added to a shared model, Pillutla et al., 2204.03809, with its FedSim.

Axis letters: B batch, N classes, K keys a class, D features.
"""

from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.config.field import Field
from cachefl_jax.config.ranges import at_least
from cachefl_jax.methods import cachefl as shared
from cachefl_jax.methods.method import Choice, Method, Rows, Server, text_logits


class Params(NamedTuple):
    """The shared cache, and a client's shift of it."""

    keys: jax.Array  # [N, K, D]
    left: jax.Array  # [N, D] R_c itself; of a rank r, U_c [N, r]
    right: jax.Array | None  # V_c [r, D]; None without a rank


def init(server: Server, config: ConfigDict) -> Params:
    keys, rank = shared.init(server, config).keys, config.cachefl_residual.rank
    classes, _, width = keys.shape
    if not rank:
        return Params(keys, np.zeros((classes, width), np.float32), None)
    right = np.random.default_rng((config.seed, 0)).normal(size=(rank, width)) / np.sqrt(width)
    return Params(keys, np.zeros((classes, rank), np.float32), right.astype(np.float32))


def shift(params: Params, features: jax.Array) -> jax.Array:
    """f[b] . R_c[n], [B, N]."""
    if params.right is not None:
        features = features @ params.right.T
    return features @ params.left.T


def logits(params: Params, frozen: shared.Frozen, rows: Rows) -> jax.Array:
    """z[b,n], [B, N]."""
    cosines = shared.cosines(shared.Cache(params.keys), rows.features)
    cosines = cosines + shift(params, rows.features)[:, :, None]
    return text_logits(frozen, rows) + shared.cache_logits(cosines, frozen)


def personal(params: Params) -> Params:
    return Params(False, True, None if params.right is None else True)


def artefact(params: Params, frozen: shared.Frozen) -> tuple[dict, dict]:
    """A CacheFL cache: the shared keys, from which a new client starts."""
    return shared.artefact(shared.Cache(params.keys), frozen)


cachefl_residual = Method(
    label="CacheFL, personal residual",
    init=init,
    logits=logits,
    freeze=shared.freeze,
    inputs=("features", "text_logits"),
    personal=personal,
    search=(*shared.cachefl.search, Choice("cachefl_residual.rank", (0, 4))),
    fields=(
        Field(
            "cachefl_residual.rank", 0, "rank of what a client adds to the shared keys; 0 = a vector a class",
            *at_least(0), "0 takes a vector a class",
        ),
    ),
    artefact=artefact,
    explanation="keys averaged by the server, shifted by each client for itself",
    untrained="cache at round 0",
    privacy=shared.cachefl.privacy + " A client's residual stays with it.",
)  # fmt: skip
