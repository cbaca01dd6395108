"""What a federation is made of: the arrays that travel through the engine. All of them are traced: other values, in
the same shapes, compile nothing anew.

Axis letters: C clients of the population, M clients of a cohort, n rows of data.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cachefl_jax.aligned import empty
from cachefl_jax.federation.optimizers import Hyper
from cachefl_jax.federation.server import ServerHyper
from cachefl_jax.federation.work import Params


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


class PartHyper(NamedTuple):
    """The traced numbers of a round's parts, as their `hyper` makes them of a config."""

    transforms: tuple = ()  # of each
    aggregation: Any = ()
    mechanism: Any = ()
    downloads: tuple = ()  # of each
    examples: Any = ()  # `examples.Privacy` of `LocalTraining.private`


class Problem(NamedTuple):
    """What a federation takes besides the server's state."""

    clients: Clients
    data: Any  # a pytree of arrays [n, ...], the rows of all clients, stored once
    frozen: Any  # what else the loss needs, any pytree
    hyper: Hyper  # the clients' optimizer's numbers
    server: ServerHyper  # the server's
    key: jax.Array  # the run's; a client's is fold_in(fold_in(key, round), client)
    gram: jax.Array | None = None  # what `cachefl_jax.federation.dual` computes once a run
    part_hyper: PartHyper = PartHyper()
    hostile: Any = ()  # `hostile.Hostility`, where any client is
    root: Any = None  # rows of the server's own, as `data`, where the aggregation asks for its update
    schedule: Any = ()  # `schedule.Schedule`, where it is known before the run who takes part
    owners: Any = ()  # [C] int32, each client's group of devices, where rows lie with their clients (`own_rows`)


class PartStates(NamedTuple):
    """What the server keeps for a round's parts."""

    aggregation: Any = ()
    mechanism: Any = ()
    downloads: Any = ()  # (the params as the clients have them, of each transform)
    versions: Any = ()  # [H, ...] the params that the last H rounds began with, that of round r at r modulo H


class ServerState(NamedTuple):
    """What a federation carries from round to round; a checkpoint holds exactly this."""

    round: jax.Array  # [] int32, rounds done
    params: Params
    optimizer_state: Any
    shared: Any = ()  # what the server sends beside the params (`work.ClientWork.shared`)
    clients: Any = ()  # what the clients keep, a pytree [C, ...]; on several devices dealt to them
    parts: Any = ()  # `PartStates`, where the server keeps anything for them


class Drift(NamedTuple):
    """How far a round's clients move apart, for weights w_c that add up to 1 and changes d_c of the params, before any
    transform."""

    update_norm: jax.Array  # [] sum w_c |d_c|
    cosine_to_mean: jax.Array  # [] |sum w_c d_c| / sum w_c |d_c|: the mean cosine of d_c to the mean, each by w_c |d_c|
    gradient_diversity: jax.Array  # [] sum |w_c d_c|^2 / |sum w_c d_c|^2 (Yin et al., arXiv 1706.05699)


class RoundMetrics(NamedTuple):
    train_loss: jax.Array  # [] mean over the cohort's examples, before each local step; 0 without examples
    examples: jax.Array  # [] rows that the cohort holds
    finite: jax.Array  # [] bool, no number of the params after the round, or after a run's last, is NaN or infinite
    clients: jax.Array  # [] int32, how many took part: had rows
    drift: Drift | None = None  # where the federation measures it
    sent: jax.Array | None = None  # [2] uint32, bytes of all updates in 65,536 and the rest, where they depend on these


def tree_bytes(tree) -> int:
    """Bytes of a pytree's leaves, which may be shapes alone: what one transfer of it carries, without framing."""
    return sum(math.prod(jnp.shape(leaf)) * jnp.result_type(leaf).itemsize for leaf in jax.tree.leaves(tree))


def shapes_of(tree) -> tuple:
    """(structure, leaves' shapes and types), which are hashable."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)
