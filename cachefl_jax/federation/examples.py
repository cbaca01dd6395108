"""A step that is private for every example: its gradient is shortened before it is added up, and the sum gets noise
(DP-SGD, Abadi et al., arXiv 1607.00133).

Of a linear loss an example's gradient is the product of its slopes, [J], and its feature, [D]: its norm is that of one
times that of the other, and no array of gradients exists.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cachefl_jax.federation.transforms import noisy
from cachefl_jax.federation.work import Params

if TYPE_CHECKING:
    from cachefl_jax.federation.local import LocalTraining

STEPS = np.uint32(2**32 - 2**20)  # folded into a client's key before a step's number; no epoch has this one


class Privacy(NamedTuple):
    """What a step adds to its gradient."""

    clip_norm: Any  # S, the largest norm of an example's gradient
    noise: Any  # z, the standard deviation of the noise on their sum over S; None: none is drawn
    key: Any = None  # of the step


def shortening(norms: jax.Array, clip_norm: jax.Array) -> jax.Array:
    """min(1, S / norm)."""
    return jnp.minimum(1.0, clip_norm / jnp.maximum(norms, jnp.finfo(norms.dtype).tiny))


def private_gradient(local: "LocalTraining", params: Params, frozen, given: tuple, privacy: Privacy):
    """(mean loss, (sum of shortened gradients + noise) / rows) of a batch; given (batch, which are valid [B])."""
    sums = linear_sums if local.linear is not None else any_sums
    loss, total = sums(local, params, frozen, given, privacy.clip_norm)
    if privacy.noise is not None:
        total = noisy(total, privacy.key, privacy.noise * privacy.clip_norm)
    return jax.tree.map(lambda sums: sums / given[1].sum(), (loss, total))


def linear_sums(local: "LocalTraining", params: Params, frozen, given: tuple, clip_norm: jax.Array):
    """(sum of losses, sum of shortened gradients) of a linear loss."""
    (leaf,), structure = jax.tree.flatten(params)
    (batch, valid), features = given, local.linear.features(given[0])

    def total(scores):
        return jnp.where(valid, local.linear.loss(scores, frozen, batch), 0).sum()

    scores = (features @ leaf.reshape(-1, leaf.shape[-1]).T).reshape(-1, *leaf.shape[:-1])
    loss, slopes = jax.value_and_grad(total)(scores)
    slopes = slopes.reshape(len(features), -1)
    norms = jnp.linalg.norm(slopes, axis=1) * jnp.linalg.norm(features, axis=1)
    slopes = slopes * shortening(norms, clip_norm)[:, None]
    gradient = jax.lax.dot_general(slopes, features, (((0,), (0,)), ((), ())))
    return loss, jax.tree.unflatten(structure, [gradient.reshape(leaf.shape)])


def any_sums(local: "LocalTraining", params: Params, frozen, given: tuple, clip_norm: jax.Array):
    """The same of any loss, by the gradient of every example."""

    def of_one(row, valid):
        one = jax.tree.map(lambda leaf: leaf[None], row)
        loss, gradient = jax.value_and_grad(lambda params: local.loss(params, frozen, one)[0])(params)
        factor = shortening(optax.tree.norm(gradient), clip_norm)
        return jnp.where(valid, loss, 0), jax.tree.map(lambda leaf: jnp.where(valid, factor * leaf, 0), gradient)

    return jax.tree.map(lambda each: each.sum(axis=0), jax.vmap(of_one)(*given))
