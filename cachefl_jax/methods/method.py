"""What a method is: two pure functions over a params pytree, as optax makes optimizers.

A new method is one new file beside `cache.py` and one line in this package's table.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

Params = Any


class Frozen(NamedTuple):
    """What every client holds and nobody trains; traced arguments, so that changing one compiles nothing anew."""

    text: jax.Array  # [N, D] class weights, L2-normalised rows; zeros where a bank has no text features
    logit_scale: jax.Array  # []
    alpha: jax.Array  # [] weight of the cache's logits (residual ratio)
    beta: jax.Array  # [] sharpness of the affinities


class Examples(NamedTuple):
    """Rows that are trained or evaluated on."""

    features: jax.Array  # [n, D] float32, L2-normalised
    labels: jax.Array  # [n] int32


class Method(NamedTuple):
    """A way to classify frozen features.

    Attributes:
        init: (synthetic features [N, K, D]) -> params, the server's at round 0. What they hold is what travels.
        logits: (params, frozen, features [B, D]) -> logits [B, N].
    """

    init: Callable[[jax.Array], Params]
    logits: Callable[[Params, Frozen, jax.Array], jax.Array]


def cross_entropy(method: Method) -> Callable[[Params, Frozen, Examples], jax.Array]:
    """The method's training loss: (params, frozen, examples) -> softmax cross-entropy of each example, [B]."""

    def loss(params: Params, frozen: Frozen, examples: Examples) -> jax.Array:
        logits = method.logits(params, frozen, examples.features)
        return optax.softmax_cross_entropy_with_integer_labels(logits, examples.labels)

    return loss
