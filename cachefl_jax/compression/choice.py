"""Which numbers of an update are sent.

Axis letters: N classes, K keys a class, D features; R rows of a leaf, the keys of a cache; W numbers of a row.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from cachefl_jax.compression.encoding import Choice, Chosen, Shape, code, everything, in_rows
from cachefl_jax.federation.transforms import Sender


def share(fraction: float, shape: Shape) -> int:
    """How many numbers of a leaf a fraction of them is; at least one."""
    return max(round(fraction * math.prod(shape)), 1)


def index_bits(shape: Shape) -> int:
    """Bits of a place in a leaf."""
    return max(math.ceil(math.log2(max(math.prod(shape), 2))), 1)


@functools.cache
def largest(fraction: float) -> Choice:
    """The largest numbers of a leaf, by absolute value, and their places (Stich et al., arXiv 1809.07599)."""

    def choose(leaf: jax.Array, state, sender: Sender) -> Chosen:
        flat = leaf.reshape(-1)
        _, places = jax.lax.top_k(jnp.abs(flat), share(fraction, leaf.shape))
        places = jnp.sort(places)
        return Chosen((flat[places][None],), (places.astype(jnp.uint32),))

    def restore(parts, beside, shape: Shape, key) -> jax.Array:
        return spread(parts[0][0], beside[0], shape)

    return Choice(choose, restore, bits=lambda shape: (index_bits(shape),))


def spread(numbers: jax.Array, places: jax.Array, shape: Shape) -> jax.Array:
    """The leaf that has these numbers at these places, and zeros elsewhere."""
    flat = jnp.zeros(math.prod(shape), numbers.dtype)
    return flat.at[places.astype(jnp.int32)].set(numbers, unique_indices=True).reshape(shape)


@functools.cache
def drawn(fraction: float, unbiased: bool) -> Choice:
    """Numbers at places that both sides draw from the client's key of the round: nothing tells the places.

    Args:
        fraction: of a leaf's numbers.
        unbiased: whether they are divided by it, so that the expectation is the update; what is sent again later, by
            error feedback, is not."""

    def places(shape: Shape, key: jax.Array) -> jax.Array:
        drawn = jax.random.permutation(jax.random.fold_in(key, 2**31), math.prod(shape))
        return drawn[: share(fraction, shape)]

    def choose(leaf: jax.Array, state, sender: Sender) -> Chosen:
        return Chosen((leaf.reshape(-1)[places(leaf.shape, sender.key)][None],))

    def restore(parts, beside, shape: Shape, key) -> jax.Array:
        factor = np.float32(math.prod(shape) / share(fraction, shape) if unbiased else 1.0)
        return spread(factor * parts[0][0], places(shape, key), shape)

    return Choice(choose, restore)


@functools.cache
def factors(rank: int) -> Choice:
    """P Q^T of this rank for a leaf M [R, W], by one step of subspace iteration from the Q of the client's last round
    (PowerSGD, Vogels et al., arXiv 1905.13727, Algorithm 1, at one client). A leaf that is no larger is sent whole.

    P has orthonormal columns; each pair of columns is scaled to equal lengths, so that neither is written coarsely."""

    def small(shape: Shape) -> bool:
        rows, width = in_rows(shape)
        return rank * (rows + width) >= rows * width

    def state(shape: Shape):
        return () if small(shape) else jax.random.normal(jax.random.key(0), (in_rows(shape)[1], rank), jnp.float32)

    def choose(leaf: jax.Array, begun, sender: Sender) -> Chosen:
        if small(leaf.shape):
            return everything.choose(leaf, (), sender)
        matrix = leaf.reshape(in_rows(leaf.shape))
        left, _ = jnp.linalg.qr(matrix @ begun)
        right = matrix.T @ left
        lengths = jnp.sqrt(jnp.linalg.norm(right, axis=0, keepdims=True))
        safe = jnp.where(lengths > 0, lengths, 1)
        return Chosen(((left * safe).T, (right / safe).T), state=right)

    def restore(parts, beside, shape: Shape, key) -> jax.Array:
        if small(shape):
            return everything.restore(parts, beside, shape, key)
        return (parts[0].T @ parts[1]).reshape(shape)

    return Choice(choose, restore, state)


def some_rows(choose_rows, hyper=lambda group: ()) -> Choice:
    """The choice of rows that a function names: (rows [R, W], leaf, Sender) -> flags [F] bool, each of R / F rows."""

    def choose(leaf: jax.Array, state, sender: Sender) -> Chosen:
        rows = leaf.reshape(rows_of(leaf.shape))
        flags = choose_rows(rows, leaf, sender)
        sent = jnp.repeat(flags, len(rows) // len(flags))
        return Chosen((jnp.where(sent[:, None], rows, 0),), (flags.astype(jnp.uint32),))

    def sent(beside, shape: Shape) -> jax.Array:
        (flags,), (count, _) = beside, rows_of(shape)
        return jnp.repeat(flags > 0, count // len(flags))

    def restore(parts, beside, shape: Shape, key) -> jax.Array:
        return jnp.where(sent(beside, shape)[:, None], parts[0], 0).reshape(shape)

    return Choice(choose, restore, bits=lambda shape: (1,), sent=sent, hyper=hyper)


def rows_of(shape: Shape) -> Shape:
    """`in_rows`, but that each number of a leaf of one axis is a class's row."""
    return (shape[0], 1) if len(shape) == 1 else in_rows(shape)


# Rows of the classes that a client holds: the first axis of a leaf is that of the classes; a bit tells of each.
held_classes = some_rows(lambda rows, leaf, sender: sender.held(leaf.shape[0]))
# Rows that moved further than a threshold, L2; a bit tells of each row.
far_rows = some_rows(lambda rows, leaf, sender: jnp.linalg.norm(rows, axis=1) > sender.hyper, lambda group: group.moved)

top_k = code(lambda group, name: largest(group.fraction))
random_k = code(lambda group, name: drawn(group.fraction, name == "updates" and not group.error_feedback))
low_rank = code(lambda group, name: factors(group.rank))
own_classes = code(lambda group, name: held_classes)
moved_keys = code(lambda group, name: far_rows)
