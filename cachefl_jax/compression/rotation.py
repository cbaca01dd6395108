"""Numbers that are rotated at random before they are rounded, so that all look alike: normal, of one variance.

DRIVE (Vargaftik et al., arXiv 2105.08339) is that with 1 bit, EDEN (2108.08842) with any. The rotation is a Hadamard
matrix after random signs, which both sides draw from a key that they share: H D / sqrt(B).

Axis letters: R rows of a part, W numbers of a row, B of a block.
"""

import functools
from statistics import NormalDist

import jax
import jax.numpy as jnp
import numpy as np

from cachefl_jax.compression.encoding import Numbers, Written, code

BLOCK = 256  # the most numbers that are rotated together
ITERATIONS = 300  # of Lloyd's algorithm; the centroids' error is then below 0.1% of the distortion


@functools.cache
def centroids(bits: int) -> np.ndarray:
    """The 2^bits numbers that stand for a standard normal one with the least squared error, ascending, float32.

    Lloyd's algorithm from the density's cube root, which is optimal for many: each becomes the mean of what is nearest
    to it, (pdf(a) - pdf(b)) / (cdf(b) - cdf(a)) between a and b."""
    normal, count = NormalDist(), 2**bits
    found = np.array([NormalDist(0, 3**0.5).inv_cdf((at + 0.5) / count) for at in range(count)])
    for _ in range(ITERATIONS):
        bounds = [-np.inf, *(found[1:] + found[:-1]) / 2, np.inf]
        density, below = (np.array([of(bound) for bound in bounds]) for of in (normal.pdf, normal.cdf))
        found = (density[:-1] - density[1:]) / np.diff(below)
        found = (found - found[::-1]) / 2  # as symmetric as they are
    return found.astype(np.float32)


def block_of(width: int) -> int:
    """B: the power of two that a row is cut into, padded with zeros."""
    return min(1 << (width - 1).bit_length(), BLOCK)


def hadamard(numbers: jax.Array) -> jax.Array:
    """H x along the last axis, a power of two, by sums and differences alone; H H = B."""
    shape, half = numbers.shape, 1
    while half < shape[-1]:
        pairs = numbers.reshape(*shape[:-1], -1, 2, half)
        first, second = pairs[..., 0, :], pairs[..., 1, :]
        numbers, half = jnp.stack([first + second, first - second], axis=-2).reshape(shape), 2 * half
    return numbers


def signs(key: jax.Array, blocks: int, block: int) -> jax.Array:
    """D, [1, blocks, B], of +1 and -1; the same in every row."""
    return jax.random.rademacher(key, (1, blocks, block), jnp.float32)


@functools.cache
def rotated(bits: int) -> Numbers:
    """The centroid nearest to each number of y = H D x, measured in |x|, and a scale a block.

    The scale |x|^2 / <y, q> for centroids q makes the expectation over rotations x itself."""
    levels = centroids(bits)
    bounds = ((levels[1:] + levels[:-1]) / 2).astype(np.float32)

    def write(part: jax.Array, key) -> Written:
        rows, width = part.shape
        block = block_of(width)
        blocks = -(-width // block)
        padded = jnp.pad(part, ((0, 0), (0, blocks * block - width))).reshape(rows, blocks, block)
        turned = hadamard(padded * signs(key, blocks, block))
        squares = (padded**2).sum(axis=2, keepdims=True)
        level = jnp.searchsorted(bounds, turned / jnp.sqrt(jnp.where(squares > 0, squares, 1)))
        along = (turned * jnp.asarray(levels)[level]).sum(axis=2, keepdims=True)
        scale = jnp.where(squares > 0, squares / jnp.where(along > 0, along, 1), 0)
        return Written((scale.reshape(rows, blocks), level.astype(jnp.uint32).reshape(rows, blocks * block)))

    def read(written: Written, width: int, key) -> jax.Array:
        scale, level = written.rows
        rows, blocks = scale.shape
        turned = hadamard(jnp.asarray(levels)[level].reshape(rows, blocks, -1))
        back = scale[..., None] * (turned * signs(key, blocks, turned.shape[2]))
        return back.reshape(rows, -1)[:, :width]

    return Numbers(write, read, (32, bits))


rotated_quantize = code(lambda group, name: rotated(group.bits))
