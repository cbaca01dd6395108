"""What the server does with the clients' mean change.

Server optimizers: Reddi et al., "Adaptive Federated Optimization", arXiv 2003.00295; with SGD at learning rate 1 they
are FedAvg, McMahan et al., arXiv 1602.05629.
"""

from typing import NamedTuple

import jax
import optax


class ServerHyper(NamedTuple):
    """The server's optimizer's numbers, traced."""

    learning_rate: jax.Array | float = 1.0
    momentum: jax.Array | float = 0.0


def sgd(hyper: ServerHyper) -> optax.GradientTransformation:
    """FedAvg at learning rate 1; momentum is not used."""
    return optax.sgd(hyper.learning_rate)


def momentum(hyper: ServerHyper) -> optax.GradientTransformation:
    """FedAvgM."""
    return optax.sgd(hyper.learning_rate, momentum=hyper.momentum)


def adam(hyper: ServerHyper) -> optax.GradientTransformation:
    """FedAdam with the paper's beta2 0.99 and tau 1e-3; `momentum` is beta1.

    Both moments are corrected for their start at zero, as in Adam; the paper's Algorithm 2 leaves that out, so its
    first rounds take smaller steps.
    """
    return optax.adam(hyper.learning_rate, b1=hyper.momentum, b2=0.99, eps=1e-3)


SERVER_OPTIMIZERS = {"sgd": sgd, "momentum": momentum, "adam": adam}
