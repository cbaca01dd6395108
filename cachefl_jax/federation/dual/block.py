"""What a block of clients that train on coefficients is made of (letters: `dual`)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cachefl_jax.federation.folded import Members
from cachefl_jax.federation.local import LocalTraining
from cachefl_jax.federation.work import Start

FEW_CLIENTS = 512  # of so many, looking at each one's end is quicker than a binary search, a loop of small kernels


class Task(NamedTuple):
    """What all blocks of a round share.

    Attributes:
        local: what a client does; its capacity is that of the largest client that trains on coefficients.
        lanes: L, clients side by side.
        scores_shape: [*J] of one row's scores.
        measured: whether |W_c - W_0| is wanted.
        start: what the clients start from.
        members: those that train on coefficients; the others, which come first, have count 0.
        ends: [M] of their rows, laid out one client after another.
        begins: [M] of their rows.
        rows: [L] of the lanes' clients, the largest first, where they are known while tracing (`timetable`), or the
            most that each may have: no bound then depends on data.
    """

    local: LocalTraining
    lanes: int
    scores_shape: tuple[int, ...]
    measured: bool
    start: Start
    members: Members
    ends: jax.Array
    begins: jax.Array
    rows: np.ndarray | None = None


class Block(NamedTuple):
    """Rows of consecutive clients of the sorted cohort; what lies past the last client's is weighed with zero."""

    begin: jax.Array  # [] of the sorted cohort's rows, the block's first
    owner: jax.Array  # [R] place of the row's client in the sorted cohort
    position: jax.Array  # [R] in `indices`, and so in the Gram matrices
    where: jax.Array  # [R] in the data
    features: jax.Array  # [R, D]
    scores: jax.Array  # [R, J] with the server's params
    square: jax.Array  # [] |W_0|^2, read where a norm is asked for


class Lanes(NamedTuple):
    """Clients that train side by side, the largest first."""

    first: jax.Array  # [] place of the first one in the sorted cohort
    counts: jax.Array  # [L] rows; 0 where there is no client
    starts: jax.Array  # [L] in the block's rows
    keys: jax.Array  # [L]
    most: jax.Array | int  # [] the largest count


class Coefficients(NamedTuple):
    """Where the lanes' clients are: W_c = decay_c W_0 + (scale U_c)^T F_c."""

    decay: jax.Array  # [L]
    scale: jax.Array  # [R] what a row of U is to be multiplied with; 1 with momentum
    rows: jax.Array  # [R, J], U
    memory: Any  # with momentum: optimizer states of decay and of U, and the latest gradient's coefficients [R, J]
    loss: jax.Array  # [L] added up over examples
    square: Any = ()  # [L] |(scale U)^T F|^2, where lengths are wanted of plain SGD


class Batch(NamedTuple):
    """One batch of every lane."""

    valid: jax.Array  # [L, B]
    places: jax.Array  # [L, B] among the client's own rows
    rows: jax.Array  # [L, B] in the block; outside it where not valid
    learnt: jax.Array | int  # [] of each client's rows, the first so many may have coefficients that are not 0


class Gradient(NamedTuple):
    """Of a batch's mean loss and its proximal term, before the clip."""

    running: jax.Array  # [L] whether the lane has any
    slopes: jax.Array  # [L, B, J] of the mean loss, by the scores
    clip: jax.Array  # [L] its factor
    moved: jax.Array  # [L, B, J] what U adds to the batch's scores


def cut_block(task: Task, block_rows: int, server: jax.Array, first: jax.Array | int) -> Block:
    """The rows of the sorted cohort from client `first` on, as many as a block holds, and their scores with the
    server's params [J, D]."""
    problem, ends, begin = task.start.problem, task.ends, task.begins[first]
    flat = begin + jnp.arange(block_rows)
    if task.rows is None:
        search = "compare_all" if len(ends) <= FEW_CLIENTS else "scan"
        owner = jnp.minimum(jnp.searchsorted(ends, flat, side="right", method=search), len(ends) - 1)
    else:
        owner = jnp.asarray(first + np.repeat(np.arange(len(task.rows), dtype=np.int32), task.rows))
    position = problem.clients.offsets[task.members.clients[owner]] + flat - task.begins[owner]
    where = problem.clients.indices.at[position].get(mode="clip")
    # Without it XLA works the row's number out anew for each of its D features.
    owner, position, where = jax.lax.optimization_barrier((owner, position, where))
    features = task.local.linear.features(problem.data)[where]
    return Block(begin, owner, position, where, features, features @ server.T, jnp.vdot(server, server))


def lanes_at(task: Task, block: Block, place: jax.Array, after: jax.Array) -> Lanes:
    """The clients from a place of the sorted cohort on; none past `after`."""
    places = place + jnp.arange(task.lanes)
    taken, places = places < after, jnp.minimum(places, len(task.members.counts) - 1)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(task.start.key, task.members.clients[places])
    counts = task.members.counts[places]
    counts, starts = jnp.where(taken, counts, 0), task.begins[places] - block.begin
    return Lanes(place, counts, starts, keys, counts[0] if task.rows is None else int(task.rows[0]))


def narrowed(lanes: Lanes, now: Coefficients, count: int) -> tuple[Lanes, Coefficients]:
    """The first `count` lanes."""
    cut = lambda leaf: leaf[:count]  # noqa: E731
    memory = now.memory and (jax.tree.map(cut, now.memory[0]), *now.memory[1:])
    lanes = lanes._replace(counts=cut(lanes.counts), starts=cut(lanes.starts), keys=cut(lanes.keys))
    own = jax.tree.map(cut, (now.decay, now.loss, now.square))
    return lanes, now._replace(decay=own[0], loss=own[1], square=own[2], memory=memory)


def widened(before: Coefficients, after: Coefficients) -> Coefficients:
    """All lanes' `before`, of which the first ones have come to `after`."""
    back = lambda old, new: jnp.concatenate([new, old[len(new) :]])  # noqa: E731
    memory = after.memory and (jax.tree.map(back, before.memory[0], after.memory[0]), *after.memory[1:])
    decay, loss, square = jax.tree.map(
        back, (before.decay, before.loss, before.square), (after.decay, after.loss, after.square)
    )
    return after._replace(decay=decay, loss=loss, square=square, memory=memory)


def lane_of_row(block: Block, lanes: Lanes) -> tuple[jax.Array, jax.Array]:
    """([R] the lane that trains a row, [R] whether one does)."""
    lane, count = block.owner - lanes.first, len(lanes.counts)
    return jnp.clip(lane, 0, count - 1), (lane >= 0) & (lane < count)
