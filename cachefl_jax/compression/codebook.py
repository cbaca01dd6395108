"""Product quantisation of keys: a row is cut into pieces, and each piece becomes the number of the codeword nearest to
it (Jegou et al., PAMI 2011). The codebook is the update's own and travels with it, one for all pieces of all rows.

Axis letters: R rows of a part, W numbers of a row, P numbers of a piece, S pieces that the codebook is made of.
"""

import functools

import jax
import jax.numpy as jnp

from cachefl_jax.compression.encoding import Numbers, Written, code

SAMPLES = 16  # pieces a codeword that it is made of
ITERATIONS = 8  # of k-means
BATCH = 64  # rows at a time, whose distances to all codewords lie in memory


def nearest(pieces: jax.Array, codebook: jax.Array) -> jax.Array:
    """The number of the codeword nearest to each of the pieces [S, P], [S] int32."""
    return jnp.argmin((codebook**2).sum(axis=1)[None] / 2 - pieces @ codebook.T, axis=1)


def sample(rows: jax.Array, squares: jax.Array, key: jax.Array, count: int) -> jax.Array:
    """[S, P] of unit rows in pieces, [R, pieces, P]: of each row as often as its square counts in the error."""
    first, second = jax.random.split(key)
    total = jnp.cumsum(squares)
    places = jnp.searchsorted(total, jax.random.uniform(first, (count,), jnp.float32) * total[-1])
    return rows[jnp.minimum(places, len(rows) - 1), jax.random.randint(second, (count,), 0, rows.shape[1])]


def k_means(pieces: jax.Array, words: int) -> jax.Array:
    """The codebook [words, P] of the pieces [S, P], from the first of them; a word that nobody is nearest to stays."""

    def step(_, codebook: jax.Array) -> jax.Array:
        own = jax.nn.one_hot(nearest(pieces, codebook), words, dtype=jnp.float32)
        counts = own.sum(axis=0)[:, None]
        return jnp.where(counts > 0, own.T @ pieces / jnp.maximum(counts, 1), codebook)

    return jax.lax.fori_loop(0, ITERATIONS, step, pieces[:words])


@functools.cache
def product(piece: int, bits: int) -> Numbers:
    """Each row by its scale and the numbers of its pieces' codewords, with a codebook of 2^bits words."""
    words = 2**bits

    def write(part: jax.Array, key) -> Written:
        count, width = part.shape
        squares = (part**2).sum(axis=1)
        unit = part / jnp.sqrt(jnp.where(squares > 0, squares, 1))[:, None]
        cut = jnp.pad(unit, ((0, 0), (0, -width % piece))).reshape(count, -1, piece)
        codebook = k_means(sample(cut, squares, key, SAMPLES * words), words)
        places = jax.lax.map(lambda row: nearest(row, codebook), cut, batch_size=min(BATCH, count))
        found = codebook[places].reshape(count, -1)[:, :width]
        along, length = (part * found).sum(axis=1), (found**2).sum(axis=1)
        scale = along / jnp.where(length > 0, length, 1)  # the best for these codewords
        return Written((scale[:, None], places.astype(jnp.uint32)), (codebook,))

    def read(written: Written, width: int, key) -> jax.Array:
        (scale, places), (codebook,) = written
        return scale * codebook[places].reshape(len(scale), -1)[:, :width]

    return Numbers(write, read, (32, bits))


product_quantize = code(lambda group, name: product(group.piece, group.codeword_bits))
