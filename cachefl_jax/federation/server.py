"""What the server does with the aggregate: a step of an optimizer whose gradient is the negated aggregate.

Reddi et al., "Adaptive Federated Optimization", arXiv 2003.00295; with SGD at learning rate 1 it is FedAvg, McMahan et
al., arXiv 1602.05629.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax


class ServerHyper(NamedTuple):
    """The server's optimizer's numbers, traced."""

    learning_rate: jax.Array | float = 1.0
    momentum: jax.Array | float = 0.0  # beta1 of the adaptive ones
    beta2: jax.Array | float = 0.99
    tau: jax.Array | float = 1e-3  # how adaptive they are: the smaller, the more


class Moments(NamedTuple):
    first: optax.Params
    second: optax.Params


def sgd(hyper: ServerHyper) -> optax.GradientTransformation:
    """FedAvg at learning rate 1; momentum is not used."""
    return optax.sgd(hyper.learning_rate)


def momentum(hyper: ServerHyper) -> optax.GradientTransformation:
    """FedAvgM."""
    return optax.sgd(hyper.learning_rate, momentum=hyper.momentum)


def adaptive(second: Callable) -> Callable[[ServerHyper], optax.GradientTransformation]:
    """Algorithm 2 of the paper with v = second(v, d^2, beta2): x <- x + lr m / (sqrt(v) + tau).

    As there, v starts at tau^2 and no moment is corrected for its start, so the first rounds take smaller steps than
    Adam's would be.
    """

    def make(hyper: ServerHyper) -> optax.GradientTransformation:
        def init(params):
            first = jax.tree.map(jnp.zeros_like, params)
            return Moments(first, jax.tree.map(lambda leaf: jnp.full_like(leaf, hyper.tau**2), params))

        def update(gradient, moments: Moments, params=None):
            del params
            beta = hyper.momentum
            first = jax.tree.map(lambda m, g: beta * m + (1 - beta) * g, moments.first, gradient)
            squares = jax.tree.map(lambda v, g: second(v, g**2, hyper.beta2), moments.second, gradient)
            step = lambda m, v: -hyper.learning_rate * m / (jnp.sqrt(v) + hyper.tau)  # noqa: E731
            return jax.tree.map(step, first, squares), Moments(first, squares)

        return optax.GradientTransformation(init, update)

    return make


adagrad = adaptive(lambda v, square, beta2: v + square)
adam = adaptive(lambda v, square, beta2: beta2 * v + (1 - beta2) * square)
yogi = adaptive(lambda v, square, beta2: v - (1 - beta2) * square * jnp.sign(v - square))
SERVER_OPTIMIZERS = {"sgd": sgd, "momentum": momentum, "adagrad": adagrad, "adam": adam, "yogi": yogi}
