"""LP++: visual prototypes and class texts, each class blended by a weight of its own. Huang et al., arXiv 2404.02285.

    z[b,n] = f[b] . (w[n] + a[n] text[n])      prototypes w [N, D] and blending weights a [N] are trained (equation 2)

At round 0, w[n] is the mean feature of the server's images of class n, and all a[n] are CLIP's logit scale, so that it
answers nearly as zero-shot CLIP does. (The paper has the mean there and one number for all a[n] from its few labelled
images; 250 times their mean product with their text in its code, which is of the same size.)

The paper steps through w and a in turn, on all rows, at rates that bound the loss's curvature in each. In a federation
the server has no client's rows: it takes the bounds from its own images. Their idea and our constant: the curvature of
cross-entropy in the logits is at most 1/2, so on the rows that it is taken from, a step of 1 / bound in one block does
not overshoot, with

    bound_w = eig(sum_i f[i] f[i]^T) / 2 m        the largest eigenvalue, over the server's m images
    bound_a = max_n sum_i (f[i] . text[n])^2 / 2 m

Both blocks then step together at one rate: the params are w sqrt(bound_w) and a sqrt(bound_a), in which a rate of SGD
of 1 is a step of 1 / bound in each block.

Axis letters: B batch, N classes, D features.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.methods.method import Method, Rows, Server
from cachefl_jax.methods.on_features import need_text, rates


class Blend(NamedTuple):
    """All that is trained and all that travels."""

    prototypes: jax.Array  # w sqrt(bound_w), [N, D]
    weights: jax.Array  # a sqrt(bound_a), [N]


class Frozen(NamedTuple):
    """What every client holds and nobody trains."""

    text: jax.Array  # [N, D] class weights, L2-normalised rows
    units: jax.Array  # [2] sqrt(bound_w), sqrt(bound_a)


def units(server: Server) -> np.ndarray:
    """sqrt(bound_w) and sqrt(bound_a), [2]."""
    features = server.synthetic.reshape(-1, server.synthetic.shape[-1]).astype(np.float64)
    products = features @ server.text.T.astype(np.float64)
    largest = np.linalg.norm(features, ord=2) ** 2, (products**2).sum(axis=0).max()
    return np.sqrt(np.asarray(largest) / (2 * len(features))).astype(np.float32)


def init(server: Server, config: ConfigDict) -> Blend:
    """The server's means, and the logit scale. Raises UsageError: there are no texts to blend with."""
    del config
    need_text(server, "lp_plus_plus")
    for_prototypes, for_weights = units(server)
    weights = np.full(len(server.text), server.logit_scale * for_weights, np.float32)
    return Blend(server.synthetic.mean(axis=1) * for_prototypes, weights)


def freeze(server: Server, config: ConfigDict) -> Frozen:
    del config
    return Frozen(server.text, units(server))


def class_weights(params: Blend, frozen: Frozen) -> jax.Array:
    """w[n] + a[n] text[n], [N, D]."""
    return params.prototypes / frozen.units[0] + (params.weights / frozen.units[1])[:, None] * frozen.text


def logits(params: Blend, frozen: Frozen, rows: Rows) -> jax.Array:
    """z[b,n], [B, N]."""
    return rows.features @ class_weights(params, frozen).T


def artefact(params: Blend, frozen: Frozen) -> tuple[dict, dict]:
    """w, a, and the class weights that they make."""
    prototypes, weights = params.prototypes / frozen.units[0], params.weights / frozen.units[1]
    return {
        "prototypes": prototypes,
        "blending": weights,
        "class_weights": jnp.asarray(class_weights(params, frozen)),
    }, {}


lp_plus_plus = Method(
    label="LP++",
    init=init,
    logits=logits,
    freeze=freeze,
    artefact=artefact,
    search=rates(0.03, 0.1, 0.3, 1.0, 3.0),
    explanation="visual prototypes and texts, blended by class",
    privacy="A client sends a vector and a number a class. The vectors' change is a sum of its features, each times "
    "how wrong the class is, as a linear probe's: an update tells which classes a client holds.",
)
