"""Rows that lie only where their clients train: dealt to the groups of devices by client, instead of copied to each.

Each client belongs to one group for the whole run. A round's cohort is trained where its clients' rows are: with all
clients taking part the work is as even as with copies; of a drawn cohort one group may have more to do than another.

Axis letters: C clients, M clients of a cohort, n rows of data, R rows of a group.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cachefl_jax.aligned import empty
from cachefl_jax.federation.participation import dealt_places
from cachefl_jax.federation.problem import Clients, Problem


class Layout(NamedTuple):
    """Who belongs to which group."""

    owners: np.ndarray  # [C] int32, a client's group
    rows: int  # R, of the group with the most


def layout_of(sizes: np.ndarray, groups: int) -> Layout:
    """Deals clients of so many rows [C] to the groups as a round deals its cohort: by size, forth and back."""
    order, owners = np.argsort(-sizes, kind="stable"), np.empty(len(sizes), np.int32)
    for group, places in enumerate(dealt_places(len(sizes), groups)):
        owners[order[places[places < len(sizes)]]] = group
    return Layout(owners, max(int(np.bincount(owners, sizes, groups).max()), 1))


def lay_out(problem: Problem, groups: int) -> Problem:
    """The problem with the rows of the groups one after another, each filled up to R rows with copies of one: arrays on
    the host.

    Every row belongs to one client, and there is one version of it."""
    offsets, indices = (np.asarray(leaf) for leaf in problem.clients)
    sizes = np.diff(offsets)
    owners, rows = layout_of(sizes, groups)
    order = np.lexsort((np.arange(len(sizes)), owners))  # group after group
    starts = np.empty(len(sizes), np.int64)
    before = np.cumsum(sizes[order]) - sizes[order]
    first_of_group = np.searchsorted(owners[order], np.arange(groups))
    within = before - before[np.minimum(first_of_group, len(order) - 1)][owners[order]]
    starts[order] = owners[order].astype(np.int64) * rows + within
    places = np.repeat(starts - offsets[:-1], sizes) + np.arange(len(indices))

    def moved(leaf) -> np.ndarray:
        leaf = np.asarray(leaf)
        found = empty((groups * rows, *leaf.shape[1:]), leaf.dtype)
        # A batch's places past a client's end read any row, and its loss is left out after its gradient was taken: one
        # of zeros, which no data has, gives a loss that divides by a length a gradient that is not finite.
        found[:] = leaf[indices[0]] if len(indices) else 0
        found[places] = leaf[indices]
        return found

    clients = Clients(offsets, places.astype(indices.dtype))
    return problem._replace(clients=clients, data=jax.tree.map(moved, problem.data), owners=owners)


def laid_out_shapes(problem: Problem, groups: int) -> Problem:
    """What `lay_out` would give, its data as shapes alone."""
    layout = layout_of(np.diff(np.asarray(problem.clients.offsets)), groups)

    def shape(leaf):
        return jax.ShapeDtypeStruct((groups * layout.rows, *leaf.shape[1:]), leaf.dtype)

    return problem._replace(data=jax.tree.map(shape, problem.data), owners=layout.owners)


def on_group(problem: Problem, group: jax.Array) -> Problem:
    """The problem as one group sees it, which has its own rows alone, [R, ...]: those of other clients are none.
    Traced."""
    rows = jax.tree.leaves(problem.data)[0].shape[0]
    clients = problem.clients
    return problem._replace(clients=Clients(clients.offsets, clients.indices - group * rows))


class Places(NamedTuple):
    """Where a cohort's M places go."""

    deal: Callable[[jax.Array], jax.Array]  # [M, ...] -> [groups, places, ...], empty ones with zeros
    undeal: Callable[[jax.Array], jax.Array]  # and back, zeros in what was empty


def places_by_owner(problem: Problem, chosen: jax.Array, counts: jax.Array, groups: int) -> Places:
    """Every client of a cohort, sorted by size, goes to its own group; still sorted there. Traced.

    Args:
        chosen: [M] client numbers.
        counts: [M] their rows; 0 in an empty place, which goes to where there is room.
        groups: of devices."""
    count = len(chosen)
    most = min(count, -(-len(problem.owners) // groups))
    owner = jnp.where(counts > 0, problem.owners[chosen], groups)
    mine = owner[:, None] == jnp.arange(groups)[None]
    rank = jnp.where(mine, jnp.cumsum(mine, axis=0) - 1, 0).sum(axis=1)
    table = jnp.full((groups, most), count).at[owner, rank].set(jnp.arange(count), mode="drop")
    flat = jnp.minimum(owner, groups - 1) * most + rank

    def deal(leaf: jax.Array) -> jax.Array:
        return jnp.concatenate([leaf, jnp.zeros((1, *leaf.shape[1:]), leaf.dtype)])[table]

    def undeal(leaf: jax.Array) -> jax.Array:
        present = (owner < groups).reshape(-1, *(1,) * (leaf.ndim - 2))
        return jnp.where(present, leaf.reshape(-1, *leaf.shape[2:])[flat], 0)

    return Places(deal, undeal)


def fits_own_rows(problem: Any, views: int) -> bool:
    """Whether the rows can lie so: one version of them, each some client's."""
    indices = np.asarray(problem.clients.indices)
    return views == 1 and len(np.unique(indices)) == len(indices)
