"""What a model comes to on rows that it was not trained on: one pass on the device gives sums, the host figures.

Axis letters: N classes, n rows.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cachefl_jax.federation.problem import tree_bytes
from cachefl_jax.precision import run_precision

BATCH = 512  # rows
BATCH_BYTES = {"cpu": 2**22, "other": 2**25}  # of rows; of images, whose towers take far more, a batch has fewer
NO_ROWS = {"correct": None, "predicted": None}  # what is told of each row, where nobody asks
BINS = 15  # of the largest probability, as Guo et al., arXiv 1706.04599, section 3


class Scores(NamedTuple):
    """Sums over the rows of a split.

    Attributes:
        right: [N] int32, rows of each class whose largest logit is their label. Ties go to the lowest class number.
        rows: [N] int32, rows of each class.
        gap: [BINS] float32, rows that are right less the sum of their largest probabilities.
        cross_entropy: [] float32.
        finite: [] bool, no logit is NaN or infinite, nor the cross-entropy.
        correct: [n] bool, which rows are right; None where nobody asks.
        predicted: [n] int32, the class of each row's largest logit; None as well.
    """

    right: jax.Array
    rows: jax.Array
    gap: jax.Array
    cross_entropy: jax.Array
    finite: jax.Array
    correct: jax.Array | None = None
    predicted: jax.Array | None = None


class Figures(NamedTuple):
    """What `Scores` say, float64; with a leading axis where they have one. NaN where they are not finite.

    Attributes:
        accuracy: the share of rows that are right, 0..1.
        balanced_accuracy: the mean of `class_accuracy` over the classes that have rows.
        ece: the expected calibration error, 0..1: |accuracy - mean largest probability| of each bin, weighted by rows.
        cross_entropy: the mean over rows, in nats.
        class_accuracy: [N] the share of each class's rows that are right; NaN where it has none.
    """

    accuracy: np.ndarray
    balanced_accuracy: np.ndarray
    ece: np.ndarray
    cross_entropy: np.ndarray
    class_accuracy: np.ndarray


@functools.lru_cache(maxsize=32)  # of a process with many runs, whose methods are few; a method may hold its towers
def make_scores(logits: Callable, each_row: bool = False) -> Callable[..., Scores]:
    """The jitted `score_rows`: (params, frozen, rows) -> Scores; the same for the same arguments."""
    return jax.jit(functools.partial(score_rows, logits, each_row))


def score_models(logits: Callable, each_row: bool, model: Callable, params, states) -> Callable[..., list[Scores]]:
    """(frozen, splits) -> `score_rows` of each split by every client's own model, leaves [M, ...]. Traced.

    Args:
        logits: as of `score_rows`.
        each_row: as of `score_rows`.
        model: (server's params, a client's state) -> its params.
        params: the server's.
        states: [M, ...] of the clients, who come one after another.
    """

    def scores(frozen, splits) -> list[Scores]:
        one = lambda own: [score_rows(logits, each_row, model(params, own), frozen, rows) for rows in splits]  # noqa: E731
        return jax.lax.map(one, states)

    return scores


@functools.cache  # a run evaluates again and again
def make_scores_of_models(logits: Callable, each_row: bool, model: Callable) -> Callable[..., list[Scores]]:
    """The jitted `score_models`: (params, states, frozen, splits) -> its scores."""

    def scores(params, states, frozen, splits) -> list[Scores]:
        return score_models(logits, each_row, model, params, states)(frozen, splits)

    return jax.jit(scores)


def score_rows(logits: Callable, each_row: bool, params, frozen, rows) -> Scores:
    """The scores of rows, in batches, so that memory does not grow with n. Traced.

    Args:
        logits: (params, frozen, rows of a batch) -> [B, N].
        each_row: whether `Scores.correct` and `Scores.predicted` are wanted.
        params: the model's.
        frozen: whatever else the logits need.
        rows: a pytree of arrays [n, ...] with a field `labels`.
    """
    count = len(rows.labels)
    most = batch_rows(tree_bytes(rows) // count)
    batches = -(-count // most)
    size = -(-count // batches)

    def batch(number):
        # The last batch begins early enough to be whole; rows that an earlier one has counted are masked.
        first = jnp.minimum(number * size, count - size)
        own = jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, first, size), rows)
        fresh = first + jnp.arange(size) >= number * size
        return first, score_batch(logits(params, frozen, own), own.labels, fresh)

    def add(number, total: Scores) -> Scores:
        first, new = batch(number)
        sums = jax.tree.map(jnp.add, *(each._replace(finite=None, **NO_ROWS) for each in (total, new)))
        put = lambda old, own: jax.lax.dynamic_update_slice_in_dim(old, own, first, axis=0)  # noqa: E731
        told = {name: put(getattr(total, name), getattr(new, name)) for name in NO_ROWS} if each_row else NO_ROWS
        return sums._replace(finite=total.finite & new.finite, **told)

    with run_precision():
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(lambda: batch(0)[1]))
        told = {"correct": jnp.zeros(count, bool), "predicted": jnp.zeros(count, jnp.int32)} if each_row else NO_ROWS
        start = zeros._replace(finite=jnp.asarray(True), **told)
        return jax.lax.fori_loop(0, batches, add, start)


def batch_rows(size: int) -> int:
    """Rows of a batch, each of `size` bytes."""
    most = BATCH_BYTES["cpu" if jax.default_backend() == "cpu" else "other"]
    return max(min(BATCH, most // max(size, 1)), 1)


def score_batch(logits: jax.Array, labels: jax.Array, counted: jax.Array) -> Scores:
    """The scores of logits [B, N]; only rows `counted` [B] are in the sums. Traced."""
    largest = logits.max(axis=1)
    total = jnp.exp(logits - largest[:, None]).sum(axis=1)
    confidence = 1 / total  # the largest probability of a softmax
    predicted = jnp.argmax(logits, axis=1).astype(jnp.int32)
    correct = predicted == labels
    # By label rather than by a table [B, N] of which row is of which class: with many classes that is two passes more.
    by_class = lambda rows: jnp.zeros(logits.shape[1], jnp.int32).at[labels].add(rows.astype(jnp.int32))  # noqa: E731
    bins = jnp.clip(jnp.ceil(confidence * BINS).astype(jnp.int32) - 1, 0, BINS - 1)
    in_bin = jax.nn.one_hot(bins, BINS, dtype=bool) & counted[:, None]
    own = jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
    entropy = jnp.where(counted, jnp.log(total) + largest - own, 0).sum()
    return Scores(
        right=by_class(correct & counted),
        rows=by_class(counted),
        gap=jnp.where(in_bin, (correct - confidence)[:, None], 0).sum(axis=0),
        cross_entropy=entropy,
        finite=jnp.isfinite(logits).all() & jnp.isfinite(entropy),
        correct=correct,
        predicted=predicted,
    )


def figures(scores: Scores) -> Figures:
    """What the scores say. On the host."""
    right, rows, gap, entropy, finite = (np.asarray(leaf) for leaf in scores[:5])
    counted = rows.sum(axis=-1)
    shares = np.divide(right, rows, out=np.full(rows.shape, np.nan), where=rows > 0)
    balanced = np.where(rows > 0, shares, 0).sum(axis=-1) / (rows > 0).sum(axis=-1)
    ece = np.abs(gap.astype(np.float64)).sum(axis=-1) / counted
    told = (right.sum(axis=-1) / counted, balanced, ece, entropy / counted)
    return Figures(*(np.where(finite, one, np.nan) for one in told), np.where(finite[..., None], shares, np.nan))
