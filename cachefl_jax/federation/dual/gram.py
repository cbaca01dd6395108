"""Products and norms of params, by the clients' Gram matrices: D occurs in none of them."""

import functools

import jax
import jax.numpy as jnp

from cachefl_jax.federation.dual.block import Batch, Block, Coefficients, Lanes, Task
from cachefl_jax.federation.local import LocalTraining
from cachefl_jax.federation.problem import Clients

TILE = 64  # columns of a Gram matrix come in multiples of so many


def capacity_of(local: LocalTraining, width: int) -> int:
    """Rows of the largest client that trains on coefficients, where features have `width` numbers."""
    return min(local.capacity, width)


def gram_matrices(local: LocalTraining, clients: Clients, data) -> jax.Array:
    """Every client's F_c F_c^T: [n + capacity, columns] float32, with whole tiles of columns.

    Row i belongs to `clients.indices[i]`, the columns to its client's rows; columns past the client's last row are
    zero. About as large as the features at most.
    """
    features = local.linear.features(data)
    capacity = capacity_of(local, features.shape[1])
    rows, columns = clients.indices.shape[0] + capacity, -(-capacity // TILE) * TILE

    def one(client, grams):
        start, end = clients.offsets[client], clients.offsets[client + 1]
        where = clients.indices.at[start + jnp.arange(capacity)].get(mode="clip")
        own = features.at[where].get(mode="clip")
        gram = jnp.pad(own @ own.T, ((0, 0), (0, columns - capacity)))
        gram = jnp.where((jnp.arange(columns) < end - start)[None], gram, 0)
        # What is written past this client's end is overwritten by the next client's.
        return jax.lax.dynamic_update_slice(grams, gram, (start, jnp.zeros_like(start)))

    return jax.lax.fori_loop(0, clients.count, one, jnp.zeros((rows, columns), features.dtype))


def gram_product(
    task: Task, block: Block, lanes: Lanes, now: Coefficients, rows: jax.Array, learnt: jax.Array | int
) -> jax.Array:
    """G_c[rows] (scale U_c) of each lane, [L, X, J], over its first `learnt` rows; rows [L, X] in the block."""
    grams = task.start.problem.gram
    position = block.position.at[rows].get(mode="clip")

    def product(width: int, theirs: jax.Array, scale: jax.Array) -> jax.Array:
        gram = grams[:, :width].at[position].get(mode="clip") * scale[:, None]
        return jnp.einsum("lxt,ltj->lxj", gram, theirs)

    def of_first(width: int) -> jax.Array:
        own = lanes.starts[:, None] + jnp.arange(width)[None]
        # Past a client's end the coefficients are another's, and the Gram matrix is zero.
        return product(width, now.rows.at[own].get(mode="clip"), now.scale.at[own].get(mode="clip"))

    def of_all(width: int) -> jax.Array:
        # Clients of one size: theirs lie side by side, and need not be copied.
        own, shape = slice(0, len(rows) * width), (len(rows), width)
        return product(width, now.rows[own].reshape(*shape, -1), now.scale[own].reshape(shape))

    def nothing() -> jax.Array:
        return jnp.zeros((*rows.shape, now.rows.shape[1]), now.rows.dtype)

    # One product of the width that is needed is quicker than a loop over tiles. The widths do not depend on the largest
    # client, and so a client's bits do not either.
    if isinstance(learnt, int):
        if learnt == 0:
            return nothing()
        return of_all(lanes.most) if task.rows[-1] == lanes.most else of_first(learnt)
    widths = range(TILE, grams.shape[1] + 1, TILE)
    enough = (jnp.asarray([0, *widths]) < learnt).sum()
    return jax.lax.switch(enough, [nothing, *(functools.partial(of_first, width) for width in widths)])


def gradient_square(
    task: Task, block: Block, lanes: Lanes, now: Coefficients, batch: Batch, of_scores: tuple[jax.Array, jax.Array]
) -> jax.Array:
    """|gradient of loss and proximal term|^2 by the params, [L].

    `of_scores` are the loss's slopes by the batch's scores, and how these have moved, (W - W_0) f; both [L, B, J].
    """
    (slopes, moved), problem = of_scores, task.start.problem
    square = batch_square(task, block, batch, slopes)
    if not task.local.proximal:
        return square
    pull = problem.hyper.proximal
    distance = squared_distance(task, block, lanes, now, batch.learnt)
    return square + 2 * pull * (slopes * moved).sum(axis=(1, 2)) + pull**2 * distance


def batch_square(task: Task, block: Block, batch: Batch, rows: jax.Array) -> jax.Array:
    """|rows^T F_b|^2 of each lane's batch, [L], for rows [L, B, J] that are 0 where nobody is."""
    position = block.position.at[batch.rows].get(mode="clip")
    gram = task.start.problem.gram.at[position[:, :, None], batch.places[:, None, :]].get(mode="clip")
    return (rows * jnp.einsum("lbc,lcj->lbj", gram, rows)).sum(axis=(1, 2))


def with_server(task: Task, block: Block, lanes: Lanes, now: Coefficients) -> jax.Array:
    """|W_c - W_0|^2 of each lane, [L], whose `now.square` is known."""
    away, most = now.decay - 1, task.local.capacity if task.rows is None else int(lanes.most)

    def both() -> jax.Array:
        rows = lanes.starts[:, None] + jnp.arange(most)[None]
        inside = jnp.arange(most)[None] < lanes.counts[:, None]
        scale = jnp.where(inside, now.scale.at[rows].get(mode="clip"), 0)
        base = block.scores.at[rows].get(mode="clip")
        cross = (scale[..., None] * now.rows.at[rows].get(mode="clip") * base).sum(axis=(1, 2))
        return 2 * away * cross + away**2 * block.square

    if task.rows is not None:
        return now.square + both()
    # Without weight decay and a proximal term the server's scores are not read.
    return now.square + jax.lax.cond((away != 0).any(), both, lambda: jnp.zeros_like(away))


def squared_distance(task: Task, block: Block, lanes: Lanes, now: Coefficients, learnt) -> jax.Array:
    """|W_c - W_0|^2 of each lane, [L], of whose rows the first `learnt`, [] or a Python number, have coefficients."""
    grams, away = task.start.problem.gram, now.decay - 1

    def of_width(width: int) -> jax.Array:
        rows = lanes.starts[:, None] + jnp.arange(width)[None]
        inside = jnp.arange(width)[None] < lanes.counts[:, None]
        scale = jnp.where(inside, now.scale.at[rows].get(mode="clip"), 0)
        theirs = scale[..., None] * now.rows.at[rows].get(mode="clip")
        gram = grams[:, :width].at[block.position.at[rows].get(mode="clip")].get(mode="clip")
        square = jnp.einsum("lxt,ltj,lxj->l", gram, theirs, theirs)

        def with_server() -> jax.Array:
            base = block.scores.at[rows].get(mode="clip")
            return 2 * away * (theirs * base).sum(axis=(1, 2)) + away**2 * block.square

        if isinstance(learnt, int):
            return square + with_server()
        # Without weight decay and a proximal term the server's scores are not read.
        return square + jax.lax.cond((away != 0).any(), with_server, lambda: jnp.zeros_like(away))

    if isinstance(learnt, int):
        return of_width(max(-(-learnt // TILE), 1) * TILE)
    widths = range(TILE, grams.shape[1] + 1, TILE)
    narrowest = (jnp.asarray(widths) < learnt).sum()
    return jax.lax.switch(narrowest, [functools.partial(of_width, width) for width in widths])
