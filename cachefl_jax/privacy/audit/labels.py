"""Which classes a client holds, and how many rows of each, from its update.

Of softmax cross-entropy a row's gradient pulls its own class's params towards its feature and pushes those of all
other classes away (iDLG, arXiv 2001.02610, for one row). Of many rows, each class that is pulled has one, and the rest
are dealt out by how strong the pull is, as LLG does (arXiv 2105.09369), with the server's own images for its bearings.

Axis letters: V attacked updates, N classes, K keys a class, D features, B rows.
"""

import numpy as np

SILENT = 1e-4  # of the strongest class's pull: less is taken for rounding


def pulls(blocks: np.ndarray, means: np.ndarray) -> np.ndarray:
    """How far each class's params moved towards the class's features, [V, N].

    Args:
        blocks: [V, N, K, D] the negated gradient, as `inversion.gradient_of` has it.
        means: [N, D] the mean features of the server's images of each class.
    """
    return np.einsum("vnkd,nd->vn", blocks, means, dtype=np.float64)


def infer_counts(blocks: np.ndarray, means: np.ndarray, rows: int) -> np.ndarray:
    """How many of a client's `rows` rows are of each class, [V, N] int; they add up to `rows`, or to 0 where no class
    is pulled at all."""
    return np.stack([deal_rows(each, rows) for each in pulls(blocks, means)])


def deal_rows(pull: np.ndarray, rows: int) -> np.ndarray:
    """One row for each class that is pulled, [N]; what is left goes by the pulls' size, largest remainder first."""
    counts = np.zeros(len(pull), int)
    held = np.flatnonzero(pull > max(SILENT * np.abs(pull).max(), 0))
    if not len(held):
        return counts
    held = held[np.argsort(-pull[held], kind="stable")][:rows]
    exact = pull[held] / pull[held].sum() * (rows - len(held))
    whole = np.floor(exact).astype(int)
    short = rows - len(held) - whole.sum()
    whole[np.argsort(whole - exact, kind="stable")[:short]] += 1
    counts[held] = 1 + whole
    return counts


def labels_of(counts: np.ndarray) -> np.ndarray:
    """The rows' classes in ascending order, [V, B]; -1 where nothing is known."""
    rows = max(int(counts.sum(axis=1).max()), 1)
    found = np.full((len(counts), rows), -1, np.int32)
    for place, each in enumerate(counts):
        own = np.repeat(np.arange(len(each)), each)
        found[place, : len(own)] = own
    return found


def same_classes(counts: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """[V] bool, whether exactly the classes were named that a client holds."""
    return ((counts > 0) == (truth > 0)).all(axis=1)


def wrong_share(counts: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """[V] the share of a client's rows whose class was not named."""
    return 1 - np.minimum(counts, truth).sum(axis=1) / truth.sum(axis=1)
