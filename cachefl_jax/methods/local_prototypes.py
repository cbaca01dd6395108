"""Class prototypes of the clients, averaged by the server: FedProto (arXiv 2105.00243) on frozen features.

    z[b,n] = -c |f[b] - p[n]|^2      prototypes p [N, D] start from the means of the server's images

A row is of the class whose prototype is nearest (prototypical networks, 1703.05175, equation 2). FedProto's clients
train an encoder, send the mean feature of each class that they hold, and are pulled to the mean of what all send. With
a frozen encoder that mean is no matter of training: it is the nearest class mean, in one round and a closed form. What
is left to train are the prototypes themselves, by the loss of their answers; FedProto's pull to the server's prototypes
is then FedProx's term, local.proximal. Clients count by their rows; FedProto counts them class by class.

Axis letters: B batch, N classes, D features.
"""

import jax
import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.config import Field
from cachefl_jax.config.ranges import FINITE, finite
from cachefl_jax.methods.method import Method, Rows, Server
from cachefl_jax.methods.on_features import class_means, rates


def init(server: Server, config: ConfigDict) -> np.ndarray:
    """p at round 0, [N, D]."""
    del config
    return class_means(server)


def freeze(server: Server, config: ConfigDict) -> np.ndarray:
    """c, []."""
    return np.float32(config.local_prototypes.scale or server.logit_scale / 2)


def logits(prototypes: jax.Array, scale: jax.Array, rows: Rows) -> jax.Array:
    """z[b,n], [B, N], without the |f|^2 that all classes share."""
    return scale * (2 * rows.features @ prototypes.T - (prototypes**2).sum(axis=1)[None])


# fmt: off
FIELDS = (
    Field("local_prototypes.scale", 0.0, "factor of the squared distances; 0 = half of CLIP's logit scale",
          *finite(0), FINITE, traced=True),
)
# fmt: on
local_prototypes = Method(
    label="prototypes",
    init=init,
    logits=logits,
    freeze=freeze,
    search=rates(1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1),
    fields=FIELDS,
    explanation="one prototype a class, trained by distance and averaged",
    privacy="A client sends a prototype a class. The gradient of a single sample moves that of its label to its "
    "feature, and all others away: an update tells which classes a client holds and, of few rows, their mean features.",
)
