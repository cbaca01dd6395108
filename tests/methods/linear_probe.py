"""A linear probe as a user's own file: softmax regression on a frozen CLIP's features, trained by the clients.

    python -m experiments.run --config.method=tests/methods/linear_probe.py:probe --config.probe.scale=30

    z[b,n] = scale f[b] . weight[n] + bias[n]

Axis letters: B batch, N classes, D features.
"""

from typing import NamedTuple

import jax
import numpy as np

from cachefl_jax.config import Field
from cachefl_jax.config.ranges import finite
from cachefl_jax.methods import Method


class Probe(NamedTuple):
    """What is trained and travels."""

    weight: jax.Array  # [N, D]
    bias: jax.Array  # [N]


def init(server, config) -> Probe:
    """A class's weight is the mean feature of the server's own images of it."""
    weight = server.synthetic.mean(axis=1)
    return Probe(weight, np.zeros(len(weight), np.float32))


def freeze(server, config) -> np.ndarray:
    """The scale [], traced: a sweep over it compiles once."""
    return np.float32(config.probe.scale)


def logits(params, frozen, rows) -> jax.Array:
    """z[b,n], [B, N]."""
    return frozen * rows.features @ params.weight.T + params.bias[None]


def artefact(params, frozen):
    """The arrays and the number that the formula takes."""
    return params._asdict(), {"scale": float(frozen)}


probe = Method(
    label="linear probe",
    init=init,
    logits=logits,
    freeze=freeze,
    artefact=artefact,
    fields=(Field("probe.scale", 20.0, "sharpness of the logits", *finite(), "give a finite value", traced=True),),
    explanation="softmax regression, averaged by the server",
)
