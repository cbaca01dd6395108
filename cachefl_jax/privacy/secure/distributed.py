"""Noise of all clients in a secure sum: the distributed discrete Gaussian (Kairouz et al., arXiv 2102.06387).

Each client shortens its update to S, rotates it at random so that no number is large, rounds it to whole steps, again
until the norm is within its bound, and adds integers of its own discrete Gaussian noise; the words go into the secure
sum. The server turns the noisy sum back and never has less noise: a round in which any client of the cohort is missing
changes nothing, for no client helps to unmask it. `cachefl_jax.privacy.discrete` has what that spends.

The seeds of a run are in its config, and uniform draws have float32's bits; a deployment draws exact integers.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cachefl_jax.compression.rotation import hadamard
from cachefl_jax.errors import UsageError
from cachefl_jax.federation import Aggregation, Received, Sender, Transform, stateless
from cachefl_jax.federation.aggregation import uniform
from cachefl_jax.federation.transforms import shorten
from cachefl_jax.privacy.discrete import FEWEST, MOST, longest, step_of
from cachefl_jax.privacy.secure.fixed_point import decode
from cachefl_jax.privacy.secure.graph import Settings
from cachefl_jax.privacy.secure.sums import FLOAT32, Encoded, Told, left_of, secure_sum

ROTATION = np.uint32(2**32 - 2)  # folded into the server's key of a round for the signs; no client has this number
REACH = 6.0  # standard deviations that a draw of `jax.random.normal` never leaves


class Discrete(NamedTuple):
    """The traced half of a distributed sum."""

    clip_norm: Any  # S
    step: Any  # gamma S, the length of 1
    deviation: Any  # of a client's noise, in steps
    longest: Any  # norm of a rounded update, in steps
    dropout: Any = 0.0  # nobody may leave


def discrete(clip_norm: float, noise: float, clients: int, bits: int) -> Discrete:
    """The numbers for this noise multiplier."""
    step = step_of(noise, clients, bits)
    return Discrete(clip_norm, step * clip_norm, noise / math.sqrt(clients) / step, longest(step, MOST) / step)


def rotations(key: jax.Array, count: int) -> tuple[int, jax.Array]:
    """(B, signs [2, B]): the rotation is H D / sqrt(B) of the first B numbers, then of the last B."""
    block = 1 << (count.bit_length() - 1)
    signs = jax.random.rademacher(jax.random.fold_in(key, ROTATION), (2, block), jnp.float32)
    return block, signs / np.float32(math.sqrt(block))


def rotated(numbers: jax.Array, key: jax.Array) -> jax.Array:
    """The numbers [n], rotated by a key that all clients of a round share; none is padded."""
    block, signs = rotations(key, len(numbers))
    numbers = numbers.at[:block].set(hadamard(numbers[:block] * signs[0]))
    return numbers.at[-block:].set(hadamard(numbers[-block:] * signs[1]))


def turned_back(numbers: jax.Array, key: jax.Array) -> jax.Array:
    """The inverse of `rotated`."""
    block, signs = rotations(key, len(numbers))
    numbers = numbers.at[-block:].set(hadamard(numbers[-block:]) * signs[1])
    return numbers.at[:block].set(hadamard(numbers[:block]) * signs[0])


def like(tree, flat: jax.Array):
    """The numbers [n] in the tree's shapes."""
    leaves, structure = jax.tree.flatten(tree)
    parts = jnp.split(flat, np.cumsum([leaf.size for leaf in leaves])[:-1])
    return jax.tree.unflatten(structure, [part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)])


def until(ready, draw, key: jax.Array):
    """The first of independent draws that is ready."""

    def again(carry):
        key, own = jax.random.split(carry[0])
        return key, draw(own, carry[1])

    first, own = jax.random.split(key)
    return jax.lax.while_loop(lambda carry: ~ready(carry[1]), again, (first, draw(own, None)))[1]


def rounded(numbers: jax.Array, most: jax.Array, key: jax.Array) -> jax.Array:
    """Whole numbers, float32: each one of its two neighbours with its own expectation, given a norm of `most`."""
    low = jnp.floor(numbers)
    draw = lambda key, _: low + (jax.random.uniform(key, low.shape) < numbers - low)  # noqa: E731
    return until(lambda drawn: jnp.linalg.norm(drawn) <= most, draw, key)


def discrete_gaussian(key: jax.Array, deviation: jax.Array, count: int) -> jax.Array:
    """Independent integers [count], as float32, with probabilities in proportion to exp(-y^2 / 2 deviation^2).

    A Gaussian number x becomes the nearest integer y and stays with a probability in proportion to
    exp((x^2 - y^2) / 2 deviation^2): the density of x times that is the same in all of the cell of y."""
    highest = (REACH + 0.25 / deviation) / (2 * deviation)  # of (x^2 - y^2) / 2 deviation^2, for |x| up to REACH

    def draw(key, before):
        own, other = jax.random.split(key)
        exact = deviation * jax.random.normal(own, (count,))
        whole = jnp.round(exact)
        ahead = (exact - whole) * (exact + whole) / (2 * deviation**2)
        stays = jax.random.uniform(other, (count,)) < jnp.exp(ahead - highest)
        if before is None:
            return whole, stays
        return jnp.where(before[1], before[0], whole), before[1] | stays

    return until(lambda drawn: drawn[1].all(), draw, key)[0]


@functools.cache
def noisy_encoder(settings: Settings, fewest: int = FEWEST) -> Transform:
    """The last transform of the chain."""

    def apply(update, sender: Sender) -> Encoded:
        hyper: Discrete = sender.hyper
        flat = jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(update)])
        if not fewest <= flat.size <= MOST:
            value, allowed = f"updates of {flat.size} numbers", f"{fewest} to {MOST} with privacy.mechanism=distributed"
            raise UsageError("method", value, allowed, "privacy.mechanism=gaussian, or another method")
        broken, flat = ~jnp.isfinite(flat).all(), jnp.nan_to_num(flat)
        norm, own = jnp.linalg.norm(flat), sender._replace(hyper=hyper.clip_norm)
        one, other = jax.random.split(sender.key)
        numbers = rotated(flat * (shorten(norm, own) / hyper.step), sender.server_key)
        whole = rounded(numbers, hyper.longest, one).astype(jnp.int32)
        whole += discrete_gaussian(other, hyper.deviation, flat.size).astype(jnp.int32)
        words = whole.astype(jnp.uint32) & jnp.uint32(settings.modulus_mask)
        return Encoded(like(update, words), jnp.uint32(0), jnp.uint32(broken))

    return stateless(apply, size=lambda size: math.ceil(size / FLOAT32 * settings.bits / 8))


@functools.cache
def noisy_sum(settings: Settings, clients: int) -> Aggregation:
    """The aggregation: the mean of the cohort's `clients` updates and their noise, where none of them is missing."""
    plain = secure_sum(uniform, settings, clients)

    def complete(received: Received) -> jax.Array:
        alive, sound = left_of(settings, received)
        return sound & (alive.sum() == clients)

    def finish(total: Encoded, received: Received):
        leaves = [decode(settings, words).astype(jnp.float32).reshape(-1) for words in jax.tree.leaves(total.words)]
        numbers = turned_back(jnp.concatenate(leaves), received.key)
        scale = jnp.where(complete(received), received.hyper.step / clients, 0)
        return like(total.words, numbers * jnp.where(total.broken > 0, jnp.nan, scale))

    def keep(total: Encoded, aggregate, received: Received) -> Told:
        failed = received.present.any() & ~complete(received)
        return received.state._replace(failed=received.state.failed + failed)

    return plain._replace(finish=finish, keep=keep)
