"""Noise that is correlated over rounds: the matrix mechanism, of which DP-FTRL is one (arXiv 2306.08153).

The server's params after t rounds are sums of all releases before, so that noise which later rounds take back in part
hurts them less. With a lower triangular Toeplitz matrix C of few bands, round t gets row t of C^-1 Z for independent
noise Z; all rounds together are one Gaussian release of C X, for the clients' updates X. C's bands are the first
coefficients of the square root of the matrix of prefix sums (Fichtenberger et al., arXiv 2202.11205).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from cachefl_jax.federation import Mechanism, Release
from cachefl_jax.federation.transforms import noisy
from cachefl_jax.privacy.noise import Noise


def coefficients(bands: int) -> np.ndarray:
    """C's first column without its zeros, [bands]: 1, 1/2, 3/8, ..."""
    numbers = np.arange(1, bands)
    return np.cumprod(np.append(1.0, (2 * numbers - 1) / (2 * numbers)))


def sensitivity(bands: int, rounds: int, separation: int) -> float:
    """How far one client moves C X in so many rounds, whose updates are at most 1 long and come every `separation`
    rounds at most: the norm of C x for a client that comes as often as it may (arXiv 2405.13763, theorem 2)."""
    comes = np.zeros(max(rounds, 1))
    comes[::separation] = 1
    return float(np.linalg.norm(np.convolve(coefficients(bands), comes)[: len(comes)]))


@functools.cache  # so that the points of a sweep are one program
def matrix(bands: int) -> Mechanism:
    """The mechanism of this many bands. `Noise.multiplier` is z times the sensitivity of all rounds.

    It keeps the noise of bands - 1 rounds, each in the shapes of the params that travel."""
    from jax_privacy.matrix_factorization import toeplitz

    inverse = toeplitz.inverse_as_streaming_matrix(jnp.asarray(coefficients(bands), jnp.float32))

    def release(aggregate, state, release: Release):
        hyper: Noise = release.hyper
        deviation = hyper.multiplier * hyper.clip_norm / hyper.expected
        drawn = noisy(jax.tree.map(jnp.zeros_like, aggregate), release.key, deviation)
        correlated, state = inverse.multiply_next(drawn, state)
        return jax.tree.map(jnp.add, aggregate, correlated), state

    return Mechanism(release, state=lambda params, hyper: inverse.init_multiply(params))
