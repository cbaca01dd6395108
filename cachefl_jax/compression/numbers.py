"""Numbers in fewer bits, each rounded by itself.

Axis letters: R rows of a part, W numbers of a row.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from cachefl_jax.compression.encoding import Numbers, Written, code


def half(dtype) -> Numbers:
    """Numbers of 16 bits, rounded to the nearest."""

    def read(written: Written, width: int, key) -> jax.Array:
        return written.rows[0].astype(jnp.float32)

    return Numbers(lambda part, key: Written((part.astype(dtype),)), read, (16,))


@functools.cache
def uniform(bits: int) -> Numbers:
    """2^bits levels from -m to m at equal steps, m the largest absolute value of a row, which travels as float32.

    A number is rounded to one of its two neighbours at random, so that its expectation is itself and its variance is
    at most (m / (2^bits - 1))^2: QSGD's quantiser (Alistarh et al., arXiv 1610.02132) with the largest value for the
    norm and without the level 0, so that 1 bit is a sign."""
    steps = 2**bits - 1
    levels = (np.arange(steps + 1) * 2 / steps - 1).astype(np.float32)

    def write(part: jax.Array, key) -> Written:
        largest = jnp.abs(part).max(axis=1, keepdims=True)
        place = (part / jnp.where(largest > 0, largest, 1) + 1) * np.float32(steps / 2)
        drawn = jax.random.uniform(key, part.shape, jnp.float32)
        level = jnp.clip(jnp.floor(place + drawn), 0, steps)
        return Written((largest, level.astype(jnp.uint32)))

    def read(written: Written, width: int, key) -> jax.Array:
        largest, level = written.rows
        return largest * jnp.asarray(levels)[level]

    return Numbers(write, read, (32, bits))


FLOAT16, BFLOAT16 = half(jnp.float16), half(jnp.bfloat16)
float16 = code(lambda group, name: FLOAT16)
bfloat16 = code(lambda group, name: BFLOAT16)
quantize = code(lambda group, name: uniform(group.bits))
