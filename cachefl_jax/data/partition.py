"""Who holds what: the training rows dealt out to clients, every row exactly once.

Each scheme gives the owner of every row; `partition` turns that into index rows. Axis letters: C clients, N classes.
"""

from typing import NamedTuple

import numpy as np

from cachefl_jax.errors import UsageError


class Partition(NamedTuple):
    """Client c holds the rows indices[offsets[c]:offsets[c + 1]]."""

    offsets: np.ndarray  # [C + 1] int64
    indices: np.ndarray  # [n] int64, a permutation of all rows

    @property
    def clients(self) -> int:
        return len(self.offsets) - 1

    @property
    def sizes(self) -> np.ndarray:
        """Rows a client, [C]."""
        return np.diff(self.offsets)


def iid(rng: np.random.Generator, labels: np.ndarray, clients: int) -> np.ndarray:
    """Owners [n]: equal shares (to within one row) of the shuffled rows."""
    return rng.permutation(np.arange(len(labels)) % clients)


def dirichlet(rng: np.random.Generator, labels: np.ndarray, clients: int, concentration: float) -> np.ndarray:
    """Owners [n]: each class is shared out in proportions drawn from Dirichlet(concentration).

    Label skew as in Hsu et al., arXiv 1909.06335, class by class. Small concentrations leave a class to a few clients.
    """
    owners = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        shares = draw_shares(rng, clients, concentration)
        ends = np.round(np.cumsum(shares) * len(rows)).astype(np.int64)[:-1]
        owners[rows] = np.searchsorted(ends, np.arange(len(rows)), side="right")
    return owners


def draw_shares(rng: np.random.Generator, clients: int, concentration: float) -> np.ndarray:
    """Dirichlet(concentration) shares [C], also where NumPy's own would divide 0 by 0.

    A gamma variate of shape a is one of shape a + 1 times U^(1/a): in logarithms that cannot underflow.
    """
    logs = np.log(rng.gamma(concentration + 1, size=clients)) + np.log1p(-rng.random(clients)) / concentration
    shares = np.exp(logs - logs.max())
    return shares / shares.sum()


def pathological(rng: np.random.Generator, labels: np.ndarray, clients: int, classes_per_client: int) -> np.ndarray:
    """Owners [n]: every client holds at most `classes_per_client` classes; a class is split evenly among its holders.

    McMahan et al., arXiv 1602.05629, section 3, by classes instead of shards. Classes are dealt round and round from
    a shuffled deck.

    Raises:
        UsageError: there are fewer classes than a client should hold, or too few places to hold all classes.
    """
    present = np.unique(labels)
    places = clients * classes_per_client
    if classes_per_client > len(present):
        allowed = f"1 to {len(present)}, the classes in the training rows"
        raise UsageError("partition.classes_per_client", classes_per_client, allowed, "lower it")
    if places < len(present):
        allowed = f"at least {-(-len(present) // clients)}, so that {clients} clients hold all {len(present)} classes"
        raise UsageError("partition.classes_per_client", classes_per_client, allowed, "raise it, or add clients")
    deck = np.resize(rng.permutation(present), places)
    # A hand of neighbouring places never holds a class twice: the deck repeats only after all classes.
    holders = np.arange(places) // classes_per_client
    owners = np.zeros(len(labels), np.int64)
    for label in present:
        rows = rng.permutation(np.flatnonzero(labels == label))
        owners[rows] = np.resize(rng.permutation(holders[deck == label]), len(rows))
    return owners


SCHEMES = {
    "iid": lambda rng, labels, config: iid(rng, labels, config.clients),
    "dirichlet": lambda rng, labels, config: dirichlet(rng, labels, config.clients, config.concentration),
    "pathological": lambda rng, labels, config: pathological(rng, labels, config.clients, config.classes_per_client),
}


def partition(labels: np.ndarray, config, seed: int) -> Partition:
    """Deals the rows with these labels [n] out as config says (name, clients, concentration, classes_per_client).

    Every client gets at least one row: those that came away with none take one from the largest.

    Raises:
        UsageError: more clients than rows, or a scheme that cannot be met.
    """
    if config.clients > len(labels):
        allowed = f"1 to {len(labels)}, the training rows there are"
        raise UsageError("partition.clients", config.clients, allowed, "lower it, or bring more data")
    owners = SCHEMES[config.name](np.random.default_rng((seed, 0)), labels, config)
    owners = fill_empty(owners, config.clients)
    sizes = np.bincount(owners, minlength=config.clients)
    return Partition(np.concatenate([[0], np.cumsum(sizes)]), np.argsort(owners, kind="stable"))


def fill_empty(owners: np.ndarray, clients: int) -> np.ndarray:
    """Gives each client without rows one row of whoever then holds most; one pass, so the work is bounded."""
    owners, sizes = owners.copy(), np.bincount(owners, minlength=clients)
    for client in np.flatnonzero(sizes == 0):
        richest = int(sizes.argmax())
        owners[np.flatnonzero(owners == richest)[-1]] = client
        sizes[richest] -= 1
        sizes[client] = 1
    return owners


def everything(rows: int) -> Partition:
    """One client that holds all rows: centralised training is a federation of one."""
    return Partition(np.array([0, rows]), np.arange(rows))


def class_counts(division: Partition, labels: np.ndarray, classes: int) -> np.ndarray:
    """Rows of each class at each client, [C, N]."""
    owners = np.repeat(np.arange(division.clients), division.sizes)
    counts = np.zeros((division.clients, classes), np.int64)
    np.add.at(counts, (owners, labels[division.indices]), 1)
    return counts
