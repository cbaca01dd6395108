"""What a block of clients that train on coefficients is made of (see `dual`).

Axis letters: M clients of the cohort, L lanes, R rows of a block, B batch, J scores, D features.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Block(NamedTuple):
    """Rows of consecutive clients of the sorted cohort; what lies past the last client's is weighed with zero."""

    begin: jax.Array  # [] of the sorted cohort's rows, the block's first
    owner: jax.Array  # [R] place of the row's client in the sorted cohort
    position: jax.Array  # [R] in `indices`, and so in the Gram matrices
    where: jax.Array  # [R] in the data
    features: jax.Array  # [R, D]
    scores: jax.Array  # [R, J] with the server's parameters
    square: jax.Array  # [] |W_0|^2, read where a proximal term is clipped


class Lanes(NamedTuple):
    """Clients that train side by side, the largest first."""

    first: jax.Array  # [] place of the first one in the sorted cohort
    counts: jax.Array  # [L] rows; 0 where there is no client
    starts: jax.Array  # [L] in the block's rows
    keys: jax.Array  # [L]


class State(NamedTuple):
    kept: jax.Array  # [L]
    scale: jax.Array  # [R] what a row of U is to be multiplied with; 1 with momentum
    rows: jax.Array  # [R, J], U
    memory: object  # with momentum: optimizer states of kept and of U, and the latest gradient's coefficients [R, J]
    loss: jax.Array  # [L] added up over examples


class Step(NamedTuple):
    """One batch of every lane."""

    valid: jax.Array  # [L, B]
    rows: jax.Array  # [L, B] in the block; outside it where not valid
    running: jax.Array  # [L] whether the lane has any
    gradient: jax.Array  # [L, B, J] of the mean loss, by the scores
    clip: jax.Array  # [L] its factor


def lane_of_row(block: Block, lanes: Lanes) -> tuple[jax.Array, jax.Array]:
    """([R] the lane that trains a row, [R] whether one does)."""
    lane, count = block.owner - lanes.first, len(lanes.counts)
    return jnp.clip(lane, 0, count - 1), (lane >= 0) & (lane < count)
