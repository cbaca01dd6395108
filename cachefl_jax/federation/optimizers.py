"""What clients step with: optax transformations of numbers that are traced."""

import math
from typing import NamedTuple

import jax
import optax


class Hyper(NamedTuple):
    """The clients' optimizer's numbers, traced: a new value compiles nothing anew."""

    learning_rate: jax.Array
    weight_decay: jax.Array
    momentum: jax.Array
    epsilon: jax.Array
    proximal: jax.Array | float = 0.0  # mu of FedProx, read where LocalTraining.proximal
    clip_norm: jax.Array | float = math.inf  # read where LocalTraining.clip
    ditto: jax.Array | float = 0.0  # lambda of Ditto, read by `algorithms.ditto`


def adamw(hyper: Hyper) -> optax.GradientTransformation:
    """AdamW with the usual betas 0.9 and 0.999; momentum is not used.

    With the usual epsilon of 1e-8 the many keys whose gradient is almost zero move a full step in a direction that
    rounding decides. Tip-Adapter-F's 1e-4 holds them still.
    """
    return optax.adamw(hyper.learning_rate, eps=hyper.epsilon, weight_decay=hyper.weight_decay)


def sgd(hyper: Hyper) -> optax.GradientTransformation:
    """Plain SGD; weight decay joins the gradient."""
    return optax.chain(optax.add_decayed_weights(hyper.weight_decay), optax.sgd(hyper.learning_rate))


def momentum(hyper: Hyper) -> optax.GradientTransformation:
    """SGD as torch has it: weight decay joins the gradient before heavy-ball momentum."""
    decay = optax.add_decayed_weights(hyper.weight_decay)
    return optax.chain(decay, optax.sgd(hyper.learning_rate, momentum=hyper.momentum))


def nesterov(hyper: Hyper) -> optax.GradientTransformation:
    """`momentum`, looking one step ahead as torch's `nesterov=True` does."""
    decay = optax.add_decayed_weights(hyper.weight_decay)
    return optax.chain(decay, optax.sgd(hyper.learning_rate, momentum=hyper.momentum, nesterov=True))


CLIENT_OPTIMIZERS = {"adamw": adamw, "sgd": sgd, "momentum": momentum, "nesterov": nesterov}
LINEAR_OPTIMIZERS = (sgd, momentum, nesterov)  # whose steps are linear in the gradients: they can run on coefficients
