"""In which order an epoch takes a client's rows, at a cost that goes with the client's rows and not with the largest
client's.

Axis letters: L lanes, clients or epochs side by side.
"""

import functools

import jax
import jax.numpy as jnp

PLACE_BITS = 9  # of a word of 32, which a float32's uniform draw leaves


def order_widths(capacity: int, least: int, ratio: int) -> list[int]:
    """The widths at which rows are sorted: `capacity`, divided by `ratio` again and again until it is at most `least`.

    Each takes about 0.2 s to compile.
    """
    widths = [capacity]
    while widths[-1] > least:
        widths.append(-(-widths[-1] // ratio))
    return widths


def shuffled_orders(keys: jax.Array, counts: jax.Array, most: jax.Array | int, widths: list[int]) -> jax.Array:
    """Each lane's `shuffled` order, [L, widths[0]]; what lies past a lane's count means nothing.

    An order does not depend on the width at which it is sorted, so the narrowest that fits is taken. Under `jax.vmap`,
    `most` must not be mapped over: JAX would sort at every width.

    Args:
        keys: [L] a key for each order.
        counts: [L] rows.
        most: [] at least the largest of `counts`; as a Python number it chooses while tracing.
        widths: from `order_widths`.
    """

    def order(width: int) -> jax.Array:
        orders = jax.vmap(shuffled, (0, 0, None))(keys, counts, width)
        return jnp.pad(orders, ((0, 0), (0, widths[0] - width)))

    if isinstance(most, int):
        return order(min(width for width in widths if width >= most))
    narrowest = (jnp.asarray(widths) >= most).sum() - 1
    return jax.lax.switch(narrowest, [functools.partial(order, width) for width in widths])


def shuffled(key: jax.Array, count: jax.Array, capacity: int) -> jax.Array:
    """A random order of 0..count-1 in the first `count` places of [capacity].

    Sorts uniform draws rather than permuting: draws do not depend on how many follow them, a permutation does, and a
    client must see the same batches whatever the capacity its neighbours force.
    """
    places = jnp.arange(capacity)
    if capacity <= 2**PLACE_BITS:  # A word holds a draw and its place: a plain sort, at a quarter of the time.
        words = jax.random.bits(key, (capacity,)) >> PLACE_BITS << PLACE_BITS | places.astype(jnp.uint32)
        words = jnp.sort(jnp.where(places < count, words, jnp.uint32(2**32 - 1)))
        return (words % 2**PLACE_BITS).astype(places.dtype)
    draws = jax.random.uniform(key, (capacity,))
    return jnp.argsort(jnp.where(places < count, draws, 2.0))
