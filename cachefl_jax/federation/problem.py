"""What a federation is made of: the arrays that travel through the engine. All of them are traced: other values, in
the same shapes, compile nothing anew.

Axis letters: C clients of the population, M clients of a cohort, n rows of data.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

from cachefl_jax.aligned import empty
from cachefl_jax.federation.local import Params
from cachefl_jax.federation.optimizers import Hyper
from cachefl_jax.federation.server import ServerHyper


class Clients(NamedTuple):
    """Who holds what, as index rows into the data."""

    offsets: jax.Array  # [C + 1] int32
    indices: jax.Array  # [n] int32

    @property
    def count(self) -> int:
        """C."""
        return self.offsets.shape[-1] - 1


def repeat_views(clients: Clients, views: int) -> Clients:
    """Who holds what where the data hold `views` versions of all n rows, one version after the other: every client
    once a version, [views C + 1] and [views n]. NumPy arrays."""
    rows = len(clients.indices)
    starts = np.arange(views, dtype=np.int32)[:, None] * np.int32(rows)
    offsets = np.append((clients.offsets[:-1] + starts).reshape(-1), np.int32(views * rows))
    return Clients(offsets, (clients.indices + starts).reshape(-1))


def in_view(clients: Clients, views: int, number: jax.Array) -> Clients:
    """The C clients of version `number` modulo `views`, out of `repeat_views`. Traced."""
    if views == 1:
        return clients
    count = clients.count // views
    offsets = jax.lax.dynamic_slice(clients.offsets, (number % views * count,), (count + 1,))
    return Clients(offsets, clients.indices)


def in_client_order(clients: Clients, data) -> tuple[Clients, Any]:
    """The same federation, and the same bits of every round, with its rows client after client: reading a client's is
    then reading on. NumPy arrays; as they are where rows belong to nobody or to several."""
    indices = np.asarray(clients.indices)
    rows = {len(leaf) for leaf in jax.tree.leaves(data)}
    places = np.arange(len(indices), dtype=indices.dtype)
    if rows != {len(indices)} or (indices == places).all():
        return clients, data
    return clients._replace(indices=places), jax.tree.map(lambda leaf: take(np.asarray(leaf), indices), data)


def take(rows: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """rows[indices], in memory that is aligned as JAX aligns its own: a CPU device takes it without another copy."""
    aligned = empty((len(indices), *rows.shape[1:]), rows.dtype)
    return np.take(rows, indices, axis=0, out=aligned, mode="clip")  # any other mode takes through a copy


class Cohort(NamedTuple):
    """Who takes part in a round; padded, so that its size may change from round to round."""

    clients: jax.Array  # [M] int32 client numbers, the first `size` of them count
    size: jax.Array  # [] int32


class Problem(NamedTuple):
    """What a federation takes besides the server's state."""

    clients: Clients
    data: Any  # a pytree of arrays [n, ...], the rows of all clients, stored once
    frozen: Any  # what else the loss needs, any pytree
    hyper: Hyper  # the clients' optimizer's numbers
    server: ServerHyper  # the server's
    key: jax.Array  # the run's; a client's is fold_in(fold_in(key, round), client)
    gram: jax.Array | None = None  # what `cachefl_jax.federation.gram` computes once a run


class ServerState(NamedTuple):
    """What the server carries from round to round; a checkpoint holds exactly this."""

    round: jax.Array  # [] int32, rounds done
    params: Params
    optimizer_state: Any


class RoundMetrics(NamedTuple):
    train_loss: jax.Array  # [] mean over the cohort's examples, before each local step
    examples: jax.Array  # [] rows that the cohort holds
    finite: jax.Array  # [] bool, no number of the params after the round, or after a run's last, is NaN or infinite
