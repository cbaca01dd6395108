"""What happens to a client's update before the server sees it: a chain of small functions, as optax chains them.

A transform sees the whole update, whatever its shape. One that only multiplies it by a number which follows from its
norm (`scaling`) is exact in training on coefficients too.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

Update = Any


class Sender(NamedTuple):
    """Whose update it is."""

    client: jax.Array  # [] int32, its number
    round: jax.Array  # [] int32
    key: jax.Array  # its own in this round and for this transform
    weight: jax.Array  # [] in the aggregate
    hyper: Any  # the transform's traced numbers
    server: Any = ()  # what the server's mechanism keeps (`mechanism.Mechanism`)
    server_key: jax.Array | None = None  # the aggregation's in this round (`aggregation.Received.key`)
    hostile: jax.Array | bool = False  # [] bool (`hostile.hostile_clients`)
    held: Callable | None = None  # N -> [N] bool, which of N classes its rows are of


class Transform(NamedTuple):
    """One link of the chain. All functions are traced.

    Attributes:
        apply: (update, state, sender) -> (update, state).
        state: update -> what a client keeps for it from round to round, at round 0.
        factor: (norm of the update, sender) -> what the update is multiplied with, where `apply` does no more.
        tells: (norm of the update before it, sender) -> a number, [], that goes with the update; the server's mechanism
            gets the sum over the cohort.
        hyper: config -> its numbers, a pytree of floats; a sweep varies them without compiling anew.
        size: bytes of an update before it -> after it, where these are not those of the arrays that `apply` leaves.
        encoded: shapes of an update -> the bytes in which it travels, or at most these; counts before `size`.
        measured: what a client keeps for it -> the bytes of the update just sent, [] uint32, where they depend on it.
        code: it is half of an encoding and no transform by itself (`cachefl_jax.compression.encoding.code`).
        fields: its own in the config.
        check: config -> None; raises a UsageError.
    """

    apply: Callable[[Update, Any, Sender], tuple[Update, Any]]
    state: Callable[[Update], Any] = lambda update: ()
    factor: Callable[[jax.Array, Sender], jax.Array] | None = None
    tells: Callable[[jax.Array, Sender], jax.Array] | None = None
    hyper: Callable[[Any], Any] = lambda config: ()
    size: Callable[[float], float] | None = None
    encoded: Callable[[Any], int] | None = None
    measured: Callable[[Any], jax.Array] | None = None
    code: Callable[[Any, str], Any] | None = None
    fields: tuple = ()
    check: Callable[[Any], None] = lambda config: None


def stateless(function: Callable[[Update, Sender], Update], **more) -> Transform:
    """The transform of a function that keeps nothing."""
    return Transform(lambda update, state, sender: (function(update, sender), state), **more)


def scaling(factor: Callable[[jax.Array, Sender], jax.Array], **more) -> Transform:
    """The transform that multiplies an update by a number, which follows from its L2 norm and its sender."""

    def scale(update: Update, sender: Sender) -> Update:
        by = factor(optax.tree.norm(update), sender)
        return jax.tree.map(lambda leaf: by * leaf, update)

    return stateless(scale, factor=factor, **more)


def shorten(norm: jax.Array, sender: Sender) -> jax.Array:
    """min(1, S / norm): an update is at most S = updates.clip_norm long."""
    return jnp.minimum(1.0, sender.hyper / jnp.maximum(norm, jnp.finfo(norm.dtype).tiny))


def noisy(tree, key: jax.Array, deviation: jax.Array):
    """The tree with independent Gaussian noise on every number."""
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(key, max(len(leaves), 1))
    drawn = [jax.random.normal(own, leaf.shape, jnp.float32) for own, leaf in zip(keys, leaves, strict=False)]
    scale = lambda leaf, noise: leaf + (deviation * noise).astype(leaf.dtype)  # noqa: E731
    return jax.tree.unflatten(structure, [scale(*pair) for pair in zip(leaves, drawn, strict=True)])


def add_noise(update: Update, sender: Sender) -> Update:
    """Independent Gaussian noise of standard deviation updates.noise on every number."""
    return noisy(update, sender.key, sender.hyper)


clip = scaling(shorten, hyper=lambda config: config.updates.clip_norm)
noise = stateless(add_noise, hyper=lambda config: config.updates.noise)
