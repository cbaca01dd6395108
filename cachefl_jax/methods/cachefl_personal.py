"""CacheFL whose clients weigh the shared cache each in its own way: personal alpha and beta, learnt beside the keys.

    A[b,n,k] = exp(-beta_c (1 - f[b] . key[n,k]))           affinity of a feature to a key at client c
    z[b,n]   = s f[b] . text[n] + alpha_c sum_k A[b,n,k]    logits
    alpha_c  = cache.alpha exp(r a_c)    beta_c = cache.beta exp(r b_c)

a_c and b_c start at 0, are trained with the keys, and never leave the client; r is `cachefl_personal.rate`, so that a
step of the optimizer moves log alpha and log beta r times as far as a number of a key. By their exponents both stay
above 0, and weight decay pulls them to the config's. Sources: CacheFL, arXiv 2505.05130; personal leaves beside shared
ones, FedPer, 1912.00818, and FedSim, 2204.03809, Algorithm 3.

Axis letters: B batch, N classes, K keys a class, D features.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.config.field import Field
from cachefl_jax.config.ranges import FINITE, finite
from cachefl_jax.methods import cachefl as shared
from cachefl_jax.methods.method import Choice, Method, Rows, Server, text_logits


class Params(NamedTuple):
    """The shared cache, and how a client weighs it."""

    keys: jax.Array  # [N, K, D]
    log_alpha: jax.Array  # [] a_c
    log_beta: jax.Array  # [] b_c


class Frozen(NamedTuple):
    """What every client holds and nobody trains."""

    text: jax.Array  # [N, D]
    logit_scale: jax.Array  # []
    alpha: jax.Array  # [] before any training
    beta: jax.Array  # [] before any training
    rate: jax.Array  # []


def init(server: Server, config: ConfigDict) -> Params:
    return Params(shared.init(server, config).keys, np.zeros((), np.float32), np.zeros((), np.float32))


def freeze(server: Server, config: ConfigDict) -> Frozen:
    return Frozen(*shared.freeze(server, config), np.float32(config.cachefl_personal.rate))


def weighed(params: Params, frozen: Frozen) -> shared.Frozen:
    """CacheFL's frozen numbers with this client's alpha and beta."""
    alpha = frozen.alpha * jnp.exp(frozen.rate * params.log_alpha)
    beta = frozen.beta * jnp.exp(frozen.rate * params.log_beta)
    return shared.Frozen(frozen.text, frozen.logit_scale, alpha, beta)


def logits(params: Params, frozen: Frozen, rows: Rows) -> jax.Array:
    """z[b,n], [B, N]."""
    cosines = shared.cosines(shared.Cache(params.keys), rows.features)
    return text_logits(frozen, rows) + shared.cache_logits(cosines, weighed(params, frozen))


def personal(params: Params) -> Params:
    del params
    return Params(False, True, True)


def artefact(params: Params, frozen: Frozen) -> tuple[dict, dict]:
    """A CacheFL cache: the shared keys with the alpha and beta that a new client starts from."""
    return shared.artefact(shared.Cache(params.keys), weighed(params, frozen))


cachefl_personal = Method(
    label="CacheFL, personal alpha and beta",
    init=init,
    logits=logits,
    freeze=freeze,
    inputs=("features", "text_logits"),
    personal=personal,
    search=(*shared.cachefl.search, Choice("cachefl_personal.rate", (1.0, 10.0, 100.0))),
    fields=(
        Field(
            "cachefl_personal.rate", 10.0, "how many times as fast log alpha and log beta move as a number of a key",
            *finite(0), FINITE, traced=True,
        ),
    ),
    artefact=artefact,
    explanation="keys averaged by the server, alpha and beta learnt by each client for itself",
    untrained="cache at round 0",
    privacy=shared.cachefl.privacy + " A client's alpha and beta stay with it.",
)  # fmt: skip
