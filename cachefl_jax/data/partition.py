"""Who holds what: the training rows dealt out to clients, every row exactly once.

A scheme (`cachefl_jax.data.schemes`) gives the owner of every row; `make_partition` fills up what it left short and
turns that into index rows. Sites (``natural``) and files (``given``) are taken as they are. Axis letters: C clients,
N classes, n rows.

docs/figures.md tells the seconds of every scheme for a million rows and clients.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cachefl_jax.config.partition import FOUND, OVER, QUANTITIES, SCHEMES
from cachefl_jax.data.given import read_given
from cachefl_jax.data.sampling import shot_rows
from cachefl_jax.data.sites import site_numbers
from cachefl_jax.errors import UsageError
from cachefl_jax.named import find


class Partition(NamedTuple):
    """Client c holds the rows indices[offsets[c]:offsets[c + 1]]."""

    offsets: np.ndarray  # [C + 1] int64
    indices: np.ndarray  # [n] int64, a permutation of all rows
    repairs: int = 0  # rows that changed hands so that every client has `least`

    @property
    def clients(self) -> int:
        return len(self.offsets) - 1

    @property
    def sizes(self) -> np.ndarray:
        """Rows a client, [C]."""
        return np.diff(self.offsets)

    @property
    def owners(self) -> np.ndarray:
        """The client that holds each row, [n]."""
        owners = np.empty(len(self.indices), np.int64)
        owners[self.indices] = np.repeat(np.arange(self.clients), self.sizes)
        return owners


def make_partition(labels: np.ndarray, config, seed: int, groups: np.ndarray | None = None) -> Partition:
    """Deals the rows out as `config` says: the group ``partition`` of `cachefl_jax.config.default`.

    Every client gets at least `config.least` rows: those that came away with fewer take them from the largest. With
    ``natural`` and ``given`` no row changes hands, and `config.clients` is 0 or what is found.

    Args:
        labels: [n] class of each row.
        seed: the run's; the same seed deals the same.
        groups: [n] the site that each row came from, for ``natural``.

    Raises UsageError: a name that is none, more clients than rows, a scheme that cannot be met, or a file at odds with
    the rows."""
    for field, names in (("name", (*SCHEMES, *FOUND)), ("over", OVER), ("quantity", QUANTITIES)):
        if config[field] not in names:
            raise UsageError(f"partition.{field}", config[field], " | ".join(names), "choose one of these")
    if config.name in FOUND:
        partition = by_site(groups) if config.name == "natural" else Partition(*read_given(config.path, len(labels)))
        check_found(config, partition)
        return partition
    check_room(config, len(labels))
    owners = find("partition.name", config.name, SCHEMES)(np.random.default_rng((seed, 0)), labels, config)
    return repaired(owners, config.clients, config.least)


def check_room(config, rows: int) -> None:
    """Enough rows for all clients."""
    if not 1 <= config.clients <= rows:
        allowed = f"1 to {rows}, the training rows there are"
        raise UsageError("partition.clients", config.clients, allowed, "lower it, or bring more data")
    if config.least * config.clients > rows:
        allowed = f"1 to {rows // config.clients}, for {rows} training rows at {config.clients} clients"
        raise UsageError("partition.least", config.least, allowed, "lower it, or partition.clients")


def check_found(config, partition: Partition) -> None:
    """As many clients as the config says, if it says, and none with fewer rows than it wants."""
    if config.clients not in (0, partition.clients):
        allowed = f"0 or {partition.clients}, the {FOUND[config.name]}"
        raise UsageError("partition.clients", config.clients, allowed, "--config.partition.clients=0")
    poorest = int(partition.sizes.argmin())
    if not partition.sizes[poorest]:  # only a file can say so: sites are those of the rows
        found = f"{config.path}: client {poorest} without rows"
        allowed = f"one row or more for each client ({(partition.sizes == 0).sum()} of {partition.clients} have none)"
        mend = "give them rows, or leave them out: offsets[numpy.diff(offsets, prepend=-1) > 0]"
        raise UsageError("partition.path", found, allowed, mend)
    if config.least > partition.sizes[poorest]:
        allowed = f"at most {partition.sizes[poorest]}, what client {poorest} of the {FOUND[config.name]} has"
        mend = "lower it, or give that client more rows: with this scheme none change hands"
        raise UsageError("partition.least", config.least, allowed, mend)


def repaired(owners: np.ndarray, clients: int, least: int) -> Partition:
    """The partition of `owners` [n], with rows handed to each client that has fewer than `least`.

    A row is always taken from whoever then has most (of several the first), the last one of theirs. In one sort, not
    row by row: stack each client's rows, and those to be taken lie highest. It moves as many rows as are missing, so
    at most C * `least`; there must be enough. What a client gets so may be of a class that its scheme would not give
    it: the partition card tells how many rows moved."""
    sizes = np.bincount(owners, minlength=clients)
    missing = np.maximum(least - sizes, 0)
    repairs = int(missing.sum())
    if repairs:
        order = np.argsort(owners, kind="stable")
        height = np.arange(len(owners)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        spare = np.flatnonzero(height >= least)
        highest = spare[np.argsort(-height[spare], kind="stable")[:repairs]]
        owners = owners.copy()
        owners[order[highest]] = np.repeat(np.arange(clients), missing)
        sizes = np.bincount(owners, minlength=clients)
    return Partition(np.concatenate([[0], np.cumsum(sizes)]), np.argsort(owners, kind="stable"), repairs)


def by_site(groups: np.ndarray | None) -> Partition:
    """Each site one client, by ascending number of the site. Raises UsageError: the source tells no sites."""
    if groups is None:
        allowed = "natural only for a source that says which site each row came from"
        raise UsageError("partition.name", "natural", allowed, "set data.group_column, or choose another scheme")
    sites, owners = np.unique(groups, return_inverse=True)
    return repaired(owners, len(sites), least=0)


def thinned(
    partition: Partition, labels: np.ndarray, config, seed: int, names: Sequence[str] = ()
) -> tuple[Partition, np.ndarray]:
    """(the partition of the rows that `config.shots` and `config.left_out` leave, numbered anew; which rows these are).

    Args:
        labels: [n] class of each row.
        config: as of `make_partition`.
        seed: draws the rows that a client keeps.
        names: of the clients, where they are sites that have names.

    Raises UsageError: a client that is left out is not there, or nobody is left."""
    out = site_numbers("partition.left_out", config.left_out, names, partition.clients)
    there = [client for client in range(partition.clients) if client not in out]
    kept = []
    for client in there:
        rows = np.sort(partition.indices[partition.offsets[client] : partition.offsets[client + 1]])
        kept.append(rows[shot_rows(labels[rows], config.shots, seed)])
    rows = np.sort(np.concatenate(kept))
    sizes = [len(each) for each in kept]
    indices = np.searchsorted(rows, np.concatenate(kept))
    return Partition(np.concatenate([[0], np.cumsum(sizes)]), indices, partition.repairs), rows


def partition_hash(partition: Partition) -> str:
    """sha256 in hex over offsets and indices as little-endian int64: the same partition, the same hash anywhere."""
    data = (array.astype("<i8").tobytes() for array in (partition.offsets, partition.indices))
    return hashlib.sha256(b"".join(data)).hexdigest()


def everything(rows: int) -> Partition:
    """One client that holds all rows: centralised training is a federation of one."""
    return Partition(np.array([0, rows]), np.arange(rows))
