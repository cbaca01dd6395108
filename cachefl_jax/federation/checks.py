"""What makes a result wrong without an error: numbers that are not finite, and clients that read rows not their own."""

import weakref

import jax
import jax.numpy as jnp
import numpy as np

from cachefl_jax.federation.local import LocalTraining, Params
from cachefl_jax.federation.problem import Clients
from cachefl_jax.federation.timetable import Sizes, sizes_of


def all_finite(tree: Params) -> jax.Array:
    """[] bool: no number of the pytree is NaN or infinite. Traced; one pass."""
    leaves = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]
    return jnp.stack(leaves).all() if leaves else jnp.asarray(True)


def check_clients(local: LocalTraining, clients: Clients, rows: int, due: Sizes = ()) -> None:
    """Whether every client's rows are its own, and no more than it has been given room for.

    Compiled code cannot refuse: it would take the rows that are nearest. Where `clients` are shapes or traced, nothing
    is known yet and nothing is checked.

    Args:
        local: what a client does.
        clients: who holds what; several sweep points' may be stacked, [S, C + 1] and [S, n].
        rows: of the data.
        due: the only sizes that the program is for, unless ().

    Raises ValueError: a client has more rows than `local.capacity`, an index is none of the data's, or the clients
        have other sizes than is due."""
    if not all(known(leaf) for leaf in clients):
        return
    offsets, indices = (np.asarray(leaf) for leaf in clients)
    sizes = np.diff(offsets, axis=-1)
    if sizes.size and sizes.max() > local.capacity:
        client = int(sizes.argmax()) % sizes.shape[-1]
        raise ValueError(
            f"client {client} has {sizes.max()} rows; LocalTraining.capacity is {local.capacity}: take it from "
            "plan_batches(batch_size, largest=rows of the largest client)"
        )
    if due and sizes_of(sizes[..., : sizes.shape[-1] // local.views].reshape(-1)) != due:
        raise ValueError("the clients have other sizes than Federation.sizes, which the program was compiled for")
    if offsets.min() < 0 or offsets.max() > indices.shape[-1] or (sizes.size and sizes.min() < 0):
        raise ValueError(f"offsets must ascend from 0 to at most {indices.shape[-1]}, the number of index rows")
    if indices.size and (indices.min() < 0 or indices.max() >= rows):
        raise ValueError(f"indices go from {indices.min()} to {indices.max()}; the data have rows 0 to {rows - 1}")


def count_rows(data) -> int:
    """n of a pytree of arrays [n, ...]."""
    return min((leaf.shape[0] for leaf in jax.tree.leaves(data)), default=0)


def known(leaf) -> bool:
    """Whether its values can be read here and now."""
    return not isinstance(leaf, (jax.ShapeDtypeStruct, jax.core.Tracer))


class ClientCheck:
    """`check_clients`, of the same immutable arrays only once: reading them back each round would cost more than it."""

    def __init__(self, local: LocalTraining, due: Sizes = ()):
        self.local, self.due, self.checked = local, due, None

    def __call__(self, clients: Clients, data) -> None:
        if self.checked is not None and all(old() is leaf for old, leaf in zip(self.checked, clients, strict=True)):
            return
        check_clients(self.local, clients, count_rows(data), self.due)
        immutable = all(isinstance(leaf, jax.Array) and known(leaf) for leaf in clients)
        self.checked = tuple(map(weakref.ref, clients)) if immutable else None
