"""CLIP-Adapter: a bottleneck on the image features, blended with them. Gao et al., arXiv 2110.04544, equations 3 to 5.

    h[b]   = relu(relu(f[b] U) V)                            U [D, D/R], V [D/R, D], no biases
    f'[b]  = normalised(a h[b] + (1 - a) f[b])               a = clip_adapter.ratio
    z[b,n] = s f'[b] . text[n]

The second relu and the length of 1 are the public code's. That code feeds features as the tower gives them; here they
have length 1, which changes nothing: without biases h grows with f. The paper's adapter of the texts is left out, as in
the code.

Axis letters: B batch, N classes, D features, R reduction.
"""

from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.config import Field
from cachefl_jax.config.ranges import FINITE, RAISE, at_least, between
from cachefl_jax.methods.method import Choice, Method, Rows, Server, text_of
from cachefl_jax.methods.on_features import dense, need_text, normalised, rates


class Adapter(NamedTuple):
    """All that is trained and all that travels; each as a dense layer has it, [outputs, inputs]."""

    down: jax.Array  # U transposed, [D/R, D]
    up: jax.Array  # V transposed, [D, D/R]


class Frozen(NamedTuple):
    """What every client holds and nobody trains."""

    text: jax.Array  # [N, D] class weights
    logit_scale: jax.Array  # []
    ratio: jax.Array  # []


def init(server: Server, config: ConfigDict) -> Adapter:
    """Random weights by the run's seed, as PyTorch's layers start. Raises UsageError: there are no texts."""
    need_text(server, "clip_adapter")
    width = server.text.shape[1]
    hidden = max(width // config.clip_adapter.reduction, 1)
    return Adapter(*dense(config, (hidden, width), (width, hidden)))


def freeze(server: Server, config: ConfigDict) -> Frozen:
    return Frozen(*text_of(server), np.float32(config.clip_adapter.ratio))


def adapted(adapter: Adapter, frozen: Frozen, features: jax.Array) -> jax.Array:
    """f'[b], [B, D], of features [B, D]."""
    found = jax.nn.relu(jax.nn.relu(features @ adapter.down.T) @ adapter.up.T)
    return normalised(frozen.ratio * found + (1 - frozen.ratio) * features)


def logits(adapter: Adapter, frozen: Frozen, rows: Rows) -> jax.Array:
    """z[b,n], [B, N]."""
    return frozen.logit_scale * adapted(adapter, frozen, rows.features) @ frozen.text.T


# fmt: off
FIELDS = (
    Field("clip_adapter.ratio", 0.2, "part of the adapter's answer in a feature",
          *between(0, 1, closed=True), FINITE, traced=True),
    Field("clip_adapter.reduction", 4, "how many times narrower the bottleneck is than the features",
          *at_least(1), RAISE),
)
# fmt: on
clip_adapter = Method(
    label="CLIP-Adapter",
    init=init,
    logits=logits,
    freeze=freeze,
    search=(*rates(1e-3, 3e-3, 1e-2, 1e-1), Choice("clip_adapter.ratio", (0.2, 0.6))),
    fields=FIELDS,
    explanation="a bottleneck on the image features, averaged by the server",
    privacy="A client sends the weights of two layers. The gradient of the first is a sum of its features, each in the "
    "rows of the units that it turned on: of few rows, features can be read from it (arXiv 2403.07901 attacks adapters "
    "of CLIP so).",
)
