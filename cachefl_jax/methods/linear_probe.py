"""A linear probe: softmax regression on frozen features, the least that a federation on features can train.

    z[b,n] = s f[b] . w[n]      w [N, D] starts from zeros, the class texts, or the means of the server's images

Started from the texts, round 0 is zero-shot CLIP (arXiv 2103.00020, section 3.1.2 has the probe); averaged by FedAvg
(1602.05629). Its gradient grows with s, so the rate that suits SGD goes with 1 / s^2.

Axis letters: B batch, N classes, D features.
"""

from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.config import Field
from cachefl_jax.config.ranges import CHOOSE, FINITE, finite, one_of
from cachefl_jax.errors import UsageError
from cachefl_jax.methods.method import Choice, Method, Restored, Rows, Server
from cachefl_jax.methods.on_features import class_means, rates


def init(server: Server, config: ConfigDict) -> np.ndarray:
    """w at round 0, [N, D].

    Raises UsageError: it is to start from texts that the bank has not."""
    start = config.linear_probe.start
    if start == "text" and not server.text.any():
        allowed = "zero | synthetic, as the bank has no text features"
        raise UsageError("linear_probe.start", start, allowed, "choose one of these")
    if start == "zero":
        return np.zeros_like(server.text)
    return server.text if start == "text" else class_means(server)


def freeze(server: Server, config: ConfigDict) -> np.ndarray:
    """s, []."""
    return np.float32(config.linear_probe.scale or server.logit_scale)


def logits_of_scores(scores: jax.Array, scale: jax.Array, rows: Rows) -> jax.Array:
    """z[b,n], [B, N], of f[b] . w[n], [B, N]."""
    del rows
    return scale * scores


def logits(weights: jax.Array, scale: jax.Array, rows: Rows) -> jax.Array:
    """z[b,n], [B, N]."""
    return logits_of_scores(rows.features @ weights.T, scale, rows)


def restore(arrays: dict[str, Any], told: dict[str, Any]) -> Restored:
    """The weights of a file, and their scale."""
    return Restored(logits, arrays["params"], np.float32(told["linear_probe.scale"] or told["logit_scale"]))


# fmt: off
FIELDS = (
    Field("linear_probe.start", "synthetic", "weights at round 0: zeros, the class texts, or the means of the server's "
          "images", *one_of("zero", "text", "synthetic"), CHOOSE),
    Field("linear_probe.scale", 0.0, "factor of the scores; 0 = CLIP's logit scale", *finite(0), FINITE, traced=True),
)
# fmt: on
linear_probe = Method(
    label="linear probe",
    init=init,
    logits=logits,
    freeze=freeze,
    linear=logits_of_scores,
    restore=restore,
    search=(*rates(3e-4, 1e-3, 3e-3, 1e-2, 3e-2), Choice("linear_probe.start", ("synthetic", "text"))),
    fields=FIELDS,
    explanation="one weight vector a class, averaged by the server",
    privacy="A client sends a weight vector a class. The gradient of a single sample is its feature, times how wrong "
    "each class is: its label moves towards the feature, all other classes move away. So an update tells which classes "
    "a client holds and, of few rows, their mean features.",
)
