"""What a method is: three pure functions over a params pytree, as optax makes optimizers.

A new method is a file beside `cache.py`, a line in this package's table and a name in `cachefl_jax.config.fields`; the
commands know `cachefl` by its name, so that one that they train needs a word there, too.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from cachefl_jax.precision import full_precision

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
    text_logits: jax.Array | None = None  # [n, N] s f . text, once a run where memory allows; None: in every step


def text_logits(frozen: Frozen, features: jax.Array) -> jax.Array:
    """s f[b] . text[n], [B, N]: zero-shot CLIP, which every method adds to. Nothing in it is trained."""
    with full_precision():
        return frozen.logit_scale * features @ frozen.text.T


class Method(NamedTuple):
    """A way to classify frozen features: what it adds to zero-shot CLIP.

    Attributes:
        init: (synthetic features [N, K, D]) -> params, the server's at round 0. What they hold is what travels.
        scores: (params, features [B, D]) -> whatever the params say of the features.
        votes: (scores, frozen) -> [B, N], added to the text logits.
        linear: params are one array W [*J, D] and scores f W^T [B, *J], so that training may run on coefficients.
    """

    init: Callable[[jax.Array], Params]
    scores: Callable[[Params, jax.Array], Any]
    votes: Callable[[Any, Frozen], jax.Array]
    linear: bool = False

    def logits(self, params: Params, frozen: Frozen, features: jax.Array) -> jax.Array:
        """z[b,n], [B, N]."""
        with full_precision():
            return text_logits(frozen, features) + self.votes(self.scores(params, features), frozen)


def cross_entropy_of_scores(method: Method) -> Callable[[Any, Frozen, Examples], jax.Array]:
    """The training loss of the scores: (scores, frozen, examples) -> softmax cross-entropy of each example, [B]."""

    def loss(scores, frozen: Frozen, examples: Examples) -> jax.Array:
        known = examples.text_logits
        base = text_logits(frozen, examples.features) if known is None else known
        return optax.softmax_cross_entropy_with_integer_labels(base + method.votes(scores, frozen), examples.labels)

    return loss


def cross_entropy(method: Method) -> Callable[[Params, Frozen, Examples], jax.Array]:
    """The method's training loss: (params, frozen, examples) -> softmax cross-entropy of each example, [B]."""
    of_scores = cross_entropy_of_scores(method)

    def loss(params: Params, frozen: Frozen, examples: Examples) -> jax.Array:
        return of_scores(method.scores(params, examples.features), frozen, examples)

    return loss
