"""Accuracy: the share of rows whose largest logit is their label."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from cachefl_jax.precision import full_precision

BATCH = 512


def make_accuracy(logits: Callable) -> Callable[..., float]:
    """(params, frozen, rows) -> share of rows whose largest logit is their label, 0..1; `logits` takes the same.

    Rows are a pytree of arrays [n, ...] with a field `labels`.

    NaN where a logit is not finite. Runs in batches, so memory stays at BATCH x N x K whatever n is. Ties go to the
    lowest class number.
    """

    compiled = jax.jit(functools.partial(count_right, logits))

    def accuracy(params, frozen, rows) -> float:
        return share_right(int(compiled(params, frozen, rows)), len(rows.labels))

    return accuracy


def share_right(count: int, rows: int) -> float:
    """What `count_right` says of so many rows, as a share: 0..1, or NaN."""
    return count / rows if count >= 0 else math.nan


def count_right(logits: Callable, params, frozen, rows) -> jax.Array:
    """[] int32, the rows that are right; -1 where a logit is NaN or infinite, so that none is an answer. Traced."""

    def right(row):
        scores = logits(params, frozen, jax.tree.map(lambda leaf: leaf[None], row))[0]
        return jnp.argmax(scores) == row.labels, jnp.isfinite(scores).all()

    with full_precision():
        rights, finite = jax.lax.map(right, rows, batch_size=BATCH)
    return jnp.where(finite.all(), rights.sum(dtype=jnp.int32), -1)
