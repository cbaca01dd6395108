"""The parts of a round that make it private: a bound on every update, the last of its transforms, and noise.

Central: the server adds up bounded updates, all of the same weight 1 / E, and adds Gaussian noise of standard deviation
z S / E to each number; S is the bound, z the noise multiplier and E the expected cohort, a number that no data change
(McMahan et al., arXiv 1710.06963). Local: every client adds noise of z S to its own bounded update.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from cachefl_jax.federation import Aggregation, Mechanism, Release, scaling, stateless
from cachefl_jax.federation.transforms import Sender, noisy, shorten


class Noise(NamedTuple):
    """The numbers of a private round, traced."""

    multiplier: Any  # z of the updates
    clip_norm: Any  # S; where it follows a quantile, at round 0
    expected: Any  # E
    quantile: Any = 0.0  # the share of updates that S lets through
    rate: Any = 0.0  # eta_C, by which S moves
    bits: Any = 0.0  # sigma_b, the standard deviation of the noise on the sum of the clients' bits


def add_noise(aggregate, state, release: Release):
    """The aggregate with noise z S / E."""
    hyper: Noise = release.hyper
    return noisy(aggregate, release.key, hyper.multiplier * hyper.clip_norm / hyper.expected), state


def add_and_follow(aggregate, clip_norm: jax.Array, release: Release):
    """The aggregate with noise, and the next round's S: Andrew et al., arXiv 1905.03871, algorithm 1.

    Each client's bit says whether its update was at most S long; from their noisy share b, less 1/2 each so that one
    client moves the sum by 1/2, S goes on to S exp(-eta_C (b - quantile))."""
    hyper: Noise = release.hyper
    key, other = jax.random.split(release.key)
    bits = release.told[-1] - release.clients.astype(jnp.float32) / 2
    bits = bits + hyper.bits * jax.random.normal(other, (), jnp.float32)
    share = bits / hyper.expected + 0.5
    aggregate = noisy(aggregate, key, hyper.multiplier * clip_norm / hyper.expected)
    return aggregate, clip_norm * jnp.exp(-hyper.rate * (share - hyper.quantile))


def shorten_to_server(norm: jax.Array, sender: Sender) -> jax.Array:
    """`shorten` with the S that the server has at the round's start."""
    return shorten(norm, sender._replace(hyper=sender.server))


def is_within(norm: jax.Array, sender: Sender) -> jax.Array:
    """Whether an update is at most S long."""
    return (norm <= sender.server).astype(jnp.float32)


def shorten_and_add(update, sender: Sender):
    """A client's own noise z S on its update of norm S at most."""
    hyper: Noise = sender.hyper
    return noisy(local_bound.apply(update, (), sender)[0], sender.key, hyper.multiplier * hyper.clip_norm)


local_bound = scaling(lambda norm, sender: shorten(norm, sender._replace(hyper=sender.hyper.clip_norm)))
bound = scaling(shorten)
adaptive_bound = scaling(shorten_to_server, tells=is_within)
local_noise = stateless(shorten_and_add)
gaussian = Mechanism(add_noise)
adaptive = Mechanism(add_and_follow, state=lambda params, hyper: jnp.float32(hyper.clip_norm))


@functools.cache  # so that the points of a sweep are one program
def mean_of_expected(expected: float) -> Aggregation:
    """The sum of the updates over a fixed number, whoever comes."""
    return Aggregation(weigh=lambda counts, present: present / jnp.float32(expected))
