"""Schemes of who holds what: each gives the owner of every row, and none looks at the features.

The scheme of a name in `cachefl_jax.config.partition` is the function of that name: (rng, labels [n], the fields of
``partition``) -> owners [n] int64.

None retries, and none visits clients one by one: memory grows with rows and clients, and so does time (that of
`dirichlet` with clients times classes). What a scheme leaves short of rows `cachefl_jax.data.partition` mends.
Axis letters: C clients, N classes, n rows.
"""

import numpy as np

from cachefl_jax.config.partition import OVER, QUANTITIES
from cachefl_jax.errors import UsageError
from cachefl_jax.named import find


def iid(rng: np.random.Generator, labels: np.ndarray, config) -> np.ndarray:
    """Owners [n]: equal shares (to within one row) of the shuffled rows."""
    return rng.permutation(np.arange(len(labels)) % config.clients)


def dirichlet(rng: np.random.Generator, labels: np.ndarray, config) -> np.ndarray:
    """Owners [n]: label skew by Dirichlet shares, of each class or of each client's rows as `config.over` says."""
    return find("partition.over", config.over, OVER)(rng, labels, config.clients, config.concentration)


def by_class(rng: np.random.Generator, labels: np.ndarray, clients: int, concentration: float) -> np.ndarray:
    """Owners [n]: each class is shared out in proportions drawn from Dirichlet(concentration, ..., concentration).

    Label skew class by class, as in Yurochkin et al., arXiv 1905.12022: clients differ in size as well as in labels.
    Small concentrations leave a class to a few clients."""
    owners = np.zeros(len(labels), np.int64)
    for same in rows_by_label(labels):
        rows = rng.permutation(same)
        shares = draw_shares(rng, clients, concentration)
        ends = np.round(np.cumsum(shares) * len(rows)).astype(np.int64)[:-1]
        owners[rows] = np.searchsorted(ends, np.arange(len(rows)), side="right")
    return owners


def pathological(rng: np.random.Generator, labels: np.ndarray, config) -> np.ndarray:
    """Owners [n]: every client holds at most `config.classes_per_client` classes; its holders share a class evenly.

    McMahan et al., arXiv 1602.05629, section 3, by classes instead of shards. Classes are dealt round and round from
    a shuffled deck.

    Raises UsageError: there are fewer classes than a client should hold, or too few places to hold all classes."""
    clients, classes_per_client = config.clients, config.classes_per_client
    groups = rows_by_label(labels)
    present, places = labels[[group[0] for group in groups]], clients * classes_per_client
    if classes_per_client > len(present):
        allowed = f"1 to {len(present)}, the classes in the training rows"
        raise UsageError("partition.classes_per_client", classes_per_client, allowed, "lower it")
    if places < len(present):
        allowed = f"at least {-(-len(present) // clients)}, so that {clients} clients hold all {len(present)} classes"
        raise UsageError("partition.classes_per_client", classes_per_client, allowed, "raise it, or add clients")
    deck = np.resize(rng.permutation(present), places)
    # A hand of neighbouring places never holds a class twice: the deck repeats only after all classes.
    owners = np.zeros(len(labels), np.int64)
    for same, held in zip(groups, rows_by_label(deck), strict=True):
        rows = rng.permutation(same)
        owners[rows] = np.resize(rng.permutation(held // classes_per_client), len(rows))
    return owners


def shards(rng: np.random.Generator, labels: np.ndarray, config) -> np.ndarray:
    """Owners [n]: rows sorted by label, cut into C * `config.shards_per_client` equal shards, so many for each client.

    McMahan et al., arXiv 1602.05629, section 3 ("pathological non-IID"). Within a class the order is random. Shards
    differ by at most one row; where there are more of them than rows, some are empty."""
    rows = np.concatenate([rng.permutation(same) for same in rows_by_label(labels)])
    total = config.clients * config.shards_per_client
    shard = np.arange(len(rows)) * total // len(rows)
    owners = np.zeros(len(labels), np.int64)
    owners[rows] = rng.permutation(total)[shard] // config.shards_per_client
    return owners


def quantity(rng: np.random.Generator, labels: np.ndarray, config) -> np.ndarray:
    """Owners [n]: sizes drawn from the law that `config.quantity` names; the labels of each client are IID.

    Quantity skew: by Dirichlet shares (its `concentration`) as in Li et al., arXiv 2102.02079, section IV; by a power
    law as in Li et al., arXiv 1812.06127, section 5."""
    shares = find("partition.quantity", config.quantity, QUANTITIES)(rng, config)
    sizes = apportion(shares, len(labels))
    return rng.permutation(np.repeat(np.arange(config.clients), sizes))


def log_normal(rng: np.random.Generator, config) -> np.ndarray:
    """Shares [C] in proportion to exp(spread * z), z standard normal; spread 0 makes them equal."""
    return normalised(config.spread * rng.normal(size=config.clients))


def power_law(rng: np.random.Generator, config) -> np.ndarray:
    """Shares [C]: the client of rank r = 1, 2, ... gets r^-spread (Zipf's law); who has which rank is random."""
    return normalised(-config.spread * np.log1p(rng.permutation(config.clients)))


def dirichlet_shares(rng: np.random.Generator, config) -> np.ndarray:
    """Shares [C] drawn from Dirichlet(concentration, ..., concentration)."""
    return draw_shares(rng, config.clients, config.concentration)


def draw_shares(rng: np.random.Generator, clients: int, concentration: float) -> np.ndarray:
    """Dirichlet(concentration) shares [C], also where NumPy's own would divide 0 by 0.

    A gamma variate of shape a is one of shape a + 1 times U^(1/a): in logarithms that cannot underflow."""
    least = max(concentration, 1e-300)  # less leaves all to one client just the same, and would divide to infinity
    logs = np.log(rng.gamma(concentration + 1, size=clients)) + np.log1p(-rng.random(clients)) / least
    return normalised(logs)


def normalised(logs: np.ndarray) -> np.ndarray:
    """Shares in proportion to exp(`logs`), adding up to 1."""
    shares = np.exp(logs - logs.max())
    return shares / shares.sum()


def apportion(shares: np.ndarray, rows: int) -> np.ndarray:
    """Whole sizes [C] that add up to `rows`, each less than one row off its share of them."""
    ends = np.round(np.cumsum(shares) * rows).astype(np.int64)
    ends[-1] = rows
    return np.diff(ends, prepend=0)


def rows_by_label(labels: np.ndarray) -> list[np.ndarray]:
    """The rows of each label that occurs, ascending, by ascending label."""
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
