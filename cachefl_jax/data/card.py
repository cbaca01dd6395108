"""The partition card: how uneven a partition is, in figures that fit a page whatever its size.

Only cells that hold rows are counted, at most n of the C x N. Axis letters: C clients, N classes, n rows.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cachefl_jax.config.partition import FOUND, HEEDED
from cachefl_jax.data.partition import Partition, partition_hash

MOST_NAMED = 20  # classes without rows that the card names
MOST_DENSE = 2**24  # cells of a table that still fits anywhere, 128 MiB


class Cells(NamedTuple):
    """Rows of each class at each client, where there are any: m cells, by client and then by class."""

    client: np.ndarray  # [m] int64
    label: np.ndarray  # [m] int64
    count: np.ndarray  # [m] int64, 1 or more
    clients: int  # C
    classes: int  # N

    @property
    def sizes(self) -> np.ndarray:
        """Rows a client, [C]."""
        return self.sums(self.count).astype(np.int64)

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Values [m] added up for each client, [C]."""
        return np.bincount(self.client, weights=values, minlength=self.clients)


def held_cells(partition: Partition, labels: np.ndarray, classes: int) -> Cells:
    """The cells that are not 0, of rows [n] with these `labels`."""
    owners = np.repeat(np.arange(partition.clients), partition.sizes)
    held, count = np.unique(owners * classes + labels[partition.indices], return_counts=True)
    return Cells(*np.divmod(held, classes), count, partition.clients, classes)


def unknown_cells(clients: int, classes: int) -> Cells:
    """The cells of clients that do not tell what they hold: none."""
    none = np.zeros(0, np.int64)
    return Cells(none, none, none, clients, classes)


def partition_card(partition: Partition, labels: np.ndarray, class_names: Sequence[str], config, seed: int) -> dict:
    """What a run writes as partition.json.

    Args:
        labels: [n] class of each training row.
        config: the fields of ``partition`` that the partition was made from.

    Returns:
        JSON-able: scheme, settings (the fields that the scheme heeds), seed (null where nothing was drawn), clients,
        samples, classes, clients_without_samples, classes_without_samples (number and first names),
        sizes and effective_classes (least, lower_quartile, median, upper_quartile, most; see `effective_classes`),
        distance_to_all (of `distances`: mean over clients, and weighted by their samples), repairs, least, change,
        change_strength, hash."""
    cells = held_cells(partition, labels, len(class_names))
    totals = np.bincount(labels, minlength=len(class_names))
    sizes = partition.sizes
    absent = np.flatnonzero(totals == 0)
    holding = sizes > 0
    return {
        "scheme": config.name,
        "settings": {field: config[field] for field in HEEDED.get(config.name, ())},
        "seed": None if config.name in FOUND else seed,
        "clients": partition.clients,
        "samples": len(labels),
        "classes": len(class_names),
        "clients_without_samples": int((~holding).sum()),
        "classes_without_samples": {
            "number": len(absent),
            "names": [str(class_names[label]) for label in absent[:MOST_NAMED]],
        },
        "sizes": five_numbers(sizes),
        "effective_classes": five_numbers(effective_classes(cells)[holding]),
        "distance_to_all": {
            name: {"mean": float(values[holding].mean()), "weighted_mean": float(np.average(values, weights=sizes))}
            for name, values in distances(cells, totals).items()
        },
        "least": config.least,
        "repairs": partition.repairs,
        "change": config.change,
        "change_strength": config.change_strength if config.change != "none" else None,
        "hash": partition_hash(partition),
    }


def five_numbers(values: np.ndarray) -> dict[str, float]:
    """Least, quartiles and most, as plain numbers."""
    names = ("least", "lower_quartile", "median", "upper_quartile", "most")
    return {name: float(value) for name, value in zip(names, np.quantile(values, np.linspace(0, 1, 5)), strict=True)}


def effective_classes(cells: Cells) -> np.ndarray:
    """exp(entropy) of each client's label distribution, [C]: N where it holds all alike, 1 where it holds one only (or
    no rows at all)."""
    shares = cells.count / cells.sizes[cells.client]
    return np.exp(-cells.sums(shares * np.log(shares)))


def distances(cells: Cells, totals: np.ndarray) -> dict[str, np.ndarray]:
    """How far each client's label distribution p is from that of all rows, g: [C], 0 where they agree, 1 where they
    share no class.

    Total variation, sum |p - g| / 2, is the share of a client's labels that would have to change. Hellinger's is
    sqrt(1 - sum sqrt(p g)). Classes that a client lacks need no cell: there |p - g| = g, and g adds up to 1.

    `totals`: [N] rows of each class."""
    shares, overall = cells.count / cells.sizes[cells.client], (totals / totals.sum())[cells.label]
    variation = (1 + cells.sums(np.abs(shares - overall) - overall)) / 2
    affinity = cells.sums(np.sqrt(shares * overall))
    # Rounding may leave a client that agrees with all at -1e-17.
    return {
        "total_variation": np.clip(variation, 0, 1),
        "hellinger": np.sqrt(np.clip(1 - affinity, 0, 1)),
    }


def count_arrays(partition: Partition, labels: np.ndarray, classes: int) -> dict[str, np.ndarray]:
    """What a run keeps in partition.npz beside offsets and indices, so that its report needs no labels.

    Returns:
        class_counts [C, N]; or, for more than `MOST_DENSE` cells, cells [m] (client * N + class, ascending) and
        cell_counts [m]."""
    held = held_cells(partition, labels, classes)
    flat = held.client * classes + held.label
    if held.clients * classes > MOST_DENSE:
        return {"cells": flat, "cell_counts": held.count}
    counts = np.zeros(held.clients * classes, np.int64)
    counts[flat] = held.count
    return {"class_counts": counts.reshape(held.clients, classes)}


def cells_of(arrays: Mapping[str, np.ndarray], clients: int, classes: int) -> Cells:
    """What `count_arrays` wrote."""
    if "class_counts" in arrays:
        client, label = np.nonzero(arrays["class_counts"])
        return Cells(client, label, arrays["class_counts"][client, label], clients, classes)
    return Cells(*np.divmod(arrays["cells"], classes), arrays["cell_counts"], clients, classes)
