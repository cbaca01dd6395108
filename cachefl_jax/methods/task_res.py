"""TaskRes: a residual on the class texts, averaged by the server. Yu et al., arXiv 2211.10277, equation 3.

    z[b,n] = s f[b] . normalised(text[n] + a r[n])      r [N, D] from zeros, a = task_res.alpha

The sum is brought to length 1, as in the public code and not in the equation; without that it would be a linear probe
in other units. The code adds to texts as the tower gives them, of length about 10, where ours have length 1: a tenth of
their a is the same method. The rate that suits SGD goes with 1 / a^2.

Axis letters: B batch, N classes, D features.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.config import Field
from cachefl_jax.config.ranges import FINITE, finite
from cachefl_jax.methods.method import Method, Restored, Rows, Server, text_of
from cachefl_jax.methods.on_features import need_text, normalised, rates


class Frozen(NamedTuple):
    """What every client holds and nobody trains."""

    text: jax.Array  # [N, D] class weights, L2-normalised rows
    logit_scale: jax.Array  # []
    alpha: jax.Array  # [] weight of the residual


def init(server: Server, config: ConfigDict) -> np.ndarray:
    """r at round 0, [N, D]. Raises UsageError: there are no texts, and a residual of nothing has no length."""
    del config
    need_text(server, "task_res")
    return np.zeros_like(server.text)


def freeze(server: Server, config: ConfigDict) -> Frozen:
    return Frozen(*text_of(server), np.float32(config.task_res.alpha))


def weights(residual: jax.Array, frozen: Frozen) -> jax.Array:
    """Class weights, [N, D]."""
    return normalised(frozen.text + frozen.alpha * residual)


def logits(residual: jax.Array, frozen: Frozen, rows: Rows) -> jax.Array:
    """z[b,n], [B, N]."""
    return frozen.logit_scale * rows.features @ weights(residual, frozen).T


def restore(arrays: dict[str, Any], told: dict[str, Any]) -> Restored:
    """The residual of a file, and the texts that it is added to."""
    numbers = (np.float32(told[name]) for name in ("logit_scale", "task_res.alpha"))
    return Restored(logits, arrays["params"], Frozen(arrays["text"], *numbers))


task_res = Method(
    label="TaskRes",
    init=init,
    logits=logits,
    freeze=freeze,
    restore=restore,
    search=rates(1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
    fields=(Field("task_res.alpha", 0.5, "weight of the residual beside the text", *finite(), FINITE, traced=True),),
    explanation="a residual on the class texts, averaged by the server",
    privacy="A client sends a vector a class. The gradient of a single sample is its feature without the part along "
    "each class's weight, and its signs tell the label; of few rows an update tells which classes a client holds.",
)
