"""The features of a client's rows, from its update.

A linear loss's gradient is a sum over rows, slopes x feature: of one row it has rank 1 and its direction is the
feature; of B rows the features lie in the space of its first B right singular vectors. Within that space the attack
looks for features whose gradient, by the server's own model, points class by class where the update does: the
gradient matching of arXiv 2003.14053, for features, with coordinates in that space for unknowns.

Nothing here sees a client's rows. Axis letters: V attacked updates, N classes, K keys a class, D features, B rows,
Q = min(B, D) coordinates.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cachefl_jax.federation.local import LocalTraining
from cachefl_jax.federation.optimizers import Hyper, adamw
from cachefl_jax.methods import Rows
from cachefl_jax.precision import run_precision

TINY = 1e-30
QUIET = 1e-4  # of the strongest class's block: less is rounding, and not matched
ULPS = 3  # of the params: a smaller change is rounding
SATURATED = 1e-5  # how near to its largest step float32 tells AdamW's steps apart
STEPS, RATE = 150, 0.02  # of the matching
SPREADS = (0.0, 1.0)  # how far each restart begins from a class's first singular vector


class Known(NamedTuple):
    """What the server knows of its clients' training."""

    local: LocalTraining
    hyper: Hyper
    frozen: Any
    params: jax.Array  # [*J, D] at the round's start, class by class
    means: jax.Array  # [N, D] unit length, of the server's own images


def gradient_of(known: Known, updates: np.ndarray, steps: int) -> np.ndarray:
    """The negated gradient that a client's steps had on average, [V, N, K, D], up to its scale; `updates` are
    [V, *J, D], shaped as the params.

    AdamW's step from rest is g / (|g| + epsilon), which is undone number by number; a step that is longer than AdamW's
    has noise in it, and is taken as it is."""
    hyper, params, pace = known.hyper, np.asarray(known.params), float(known.hyper.learning_rate) * steps
    step = updates.astype(np.float64) / pace + np.where(updates == 0, 0, float(hyper.weight_decay) * params)
    step[np.abs(step) * pace <= ULPS * np.spacing(np.abs(params))] = 0
    if known.local.optimizer is adamw and (np.abs(step) > 1 + 1e-3).mean() < 1e-3:
        size = np.minimum(np.abs(step), 1 - SATURATED)
        step = float(hyper.epsilon) * np.sign(step) * size / (1 - size)
    return step.reshape(*updates.shape[:2], -1, updates.shape[-1])


def invert(known: Known, blocks: np.ndarray, labels: np.ndarray, seed: int = 0) -> np.ndarray:
    """Features of the rows of each update, [V, B, D] of unit length.

    Args:
        known: what the server has.
        blocks: [V, N, K, D], of `gradient_of`.
        labels: [V, B] the rows' classes, -1 where nothing is known.

    Of a row whose class left no trace the server's mean of that class is given, or of all its images."""
    keys = jax.random.split(jax.random.key(seed), (len(blocks), len(SPREADS)))
    scale = np.maximum(np.abs(blocks).max(axis=(1, 2, 3), keepdims=True), TINY)
    loss, y = known.local.linear.loss, np.maximum(labels, 0).astype(np.int32)
    scaled = (blocks / scale).astype(np.float32)
    with run_precision():
        found = np.asarray(match(loss, (known.frozen, known.params), scaled, y, keys))
    means = np.asarray(known.means)
    sizes = np.linalg.norm(scaled, axis=(2, 3))
    seen = np.take_along_axis(sizes > QUIET * sizes.max(axis=1, keepdims=True), y, axis=1) & (labels >= 0)
    overall = means.mean(axis=0) / np.linalg.norm(means.mean(axis=0))
    guess = np.where((labels >= 0)[..., None], means[y], overall)
    return np.where((seen & np.isfinite(found).all(axis=2))[..., None], found, guess)


@functools.partial(jax.jit, static_argnums=0)
def match(loss: Callable, model: tuple, blocks: jax.Array, labels: jax.Array, keys: jax.Array) -> jax.Array:
    """The best of the restarts, [V, B, D]; `loss` is `local.Linear.loss`, `keys` [V, restarts]."""

    def one(given):
        block, y, own = given
        features, losses = jax.vmap(functools.partial(restart, loss, model, block, y))(own, jnp.asarray(SPREADS))
        return features[jnp.argmin(jnp.where(jnp.isfinite(losses), losses, jnp.inf))]

    return jax.lax.map(one, (blocks, labels, keys))


def restart(loss: Callable, model: tuple, block: jax.Array, labels: jax.Array, key: jax.Array, spread: jax.Array):
    """(features [B, D], how badly they match []) of one update, from one start."""
    (frozen, params), rows = model, len(labels)
    sizes = jnp.linalg.norm(block, axis=(1, 2))
    loud = jnp.where(sizes > QUIET * sizes.max(), 1 / jnp.maximum(sizes, TINY), 0)
    basis = jnp.linalg.svd((loud[:, None, None] * block).reshape(-1, block.shape[-1]), full_matrices=False)[2][:rows]
    target, seen = block @ basis.T, jnp.sign(loud)
    within = params.reshape(-1, params.shape[-1]) @ basis.T  # a feature of this space meets no more of the params

    def mismatch(coordinates: jax.Array) -> jax.Array:
        where = normalised(coordinates)
        batch = Rows(labels, where @ basis)
        scores = (where @ within.T).reshape(rows, *params.shape[:-1])
        slopes = jax.grad(lambda scores: loss(scores, frozen, batch).sum())(scores).reshape(rows, len(block), -1)
        found = -jnp.einsum("bnk,bq->nkq", slopes, where)
        return (seen * (1 - jax.vmap(cosine)(found, target))).sum() / jnp.maximum(seen.sum(), 1)

    start = normalised(first_features(block, labels, key, spread) @ basis.T)
    optimizer = optax.adam(optax.cosine_decay_schedule(RATE, STEPS))

    def step(_, carry):
        coordinates, state = carry
        gradient = jnp.nan_to_num(jax.grad(mismatch)(coordinates))
        change, state = optimizer.update(gradient, state)
        return optax.apply_updates(coordinates, change), state

    count = STEPS if rows > 1 else 0  # one row's space has one direction
    coordinates, _ = jax.lax.fori_loop(0, count, step, (start, optimizer.init(start)))
    return normalised(coordinates) @ basis, mismatch(coordinates)


def first_features(block: jax.Array, labels: jax.Array, key: jax.Array, spread: jax.Array) -> jax.Array:
    """Where the matching begins, [B, D]: near the direction in which the row's class was pulled."""
    _, sizes, directions = jnp.linalg.svd(block, full_matrices=False)
    towards = jnp.einsum("nkd,nd->n", block, directions[:, 0])
    lead = directions[:, 0] * jnp.where(towards < 0, -1, 1)[:, None]
    share = sizes / jnp.maximum(sizes[:, :1], TINY)
    mixed = jax.random.normal(key, (len(labels), sizes.shape[1])) * share[labels]
    return lead[labels] + spread * jnp.einsum("bj,bjd->bd", mixed, directions[labels])


def normalised(rows: jax.Array) -> jax.Array:
    """Each row at length 1, [..., Q]; zeros stay."""
    return rows / jnp.sqrt(jnp.maximum((rows**2).sum(axis=-1, keepdims=True), TINY))


def cosine(one: jax.Array, other: jax.Array) -> jax.Array:
    """Of two arrays of the same shape, [], whatever their sizes."""
    one, other = (each / jnp.maximum(jnp.abs(each).max(), TINY) for each in (one, other))
    return jnp.vdot(one, other) / jnp.sqrt(jnp.maximum(jnp.vdot(one, one) * jnp.vdot(other, other), TINY))
