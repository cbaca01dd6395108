"""Seconds that each scheme takes to deal rows out to very many clients, mending included.

    python -m experiments.benchmarks.partitions --rows=1000000 --clients=1000000 --classes=10

One process, NumPy alone, one scheme after another; dirichlet over classes draws clients times classes shares, so its
time grows with --classes. "card" is the partition card's. Prints a line a scheme.
"""

import pathlib
import tempfile
import time

import numpy as np
from absl import flags

from cachefl_jax.commands import command
from cachefl_jax.config import default
from cachefl_jax.data.card import partition_card
from cachefl_jax.data.partition import make_partition
from cachefl_jax.storage.files import write_arrays

SCHEMES = (
    ("iid", {}),
    ("dirichlet", {"over": "classes"}),
    ("dirichlet", {"over": "clients"}),
    ("pathological", {}),
    ("shards", {}),
    ("quantity", {"quantity": "log_normal"}),
    ("quantity", {"quantity": "power_law"}),
    ("quantity", {"quantity": "dirichlet"}),
    ("natural", {"clients": 0}),
    ("given", {"clients": 0}),
)


def measure(rows: int, clients: int, classes: int, folder: pathlib.Path) -> list[tuple[str, float, float, int]]:
    """Name, seconds, seconds of the partition card, and repairs, of each scheme."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(rows) % classes).astype(np.int32)
    groups = rng.permutation(np.arange(rows) % clients).astype(np.int32)
    lines = []
    for name, changes in SCHEMES:
        config = default().partition
        config.update({"name": name, "clients": clients, "path": str(folder / "partition.npz"), **changes})
        began = time.perf_counter()
        partition = make_partition(labels, config, 0, groups)
        dealt = time.perf_counter()
        partition_card(partition, labels, [str(label) for label in range(classes)], config, 0)
        words = " ".join([name, *(str(value) for field, value in changes.items() if field != "clients")])
        lines.append((words, dealt - began, time.perf_counter() - dealt, partition.repairs))
        if name == "natural":
            write_arrays(folder / "partition.npz", {"offsets": partition.offsets, "indices": partition.indices})
    return lines


def main() -> None:
    values = flags.FLAGS
    with tempfile.TemporaryDirectory() as folder:
        lines = measure(values.rows, values.clients, values.classes, pathlib.Path(folder))
    print(f"{'scheme':24} seconds    card   repairs")
    for name, seconds, card, repairs in lines:
        print(f"{name:24} {seconds:7.2f} {card:7.2f} {repairs:9,}")


if __name__ == "__main__":
    flags.DEFINE_integer("rows", 1_000_000, "rows to deal out", lower_bound=1)
    flags.DEFINE_integer("clients", 1_000_000, "clients to deal them to", lower_bound=1)
    flags.DEFINE_integer("classes", 10, "classes of the rows, all alike in number", lower_bound=2)
    command.run(main)
