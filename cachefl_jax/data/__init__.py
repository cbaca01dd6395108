"""Where features come from, and who holds them."""

from cachefl_jax.data.bank import FeatureBank, Split, class_grid, load_bank, take_shots
from cachefl_jax.data.partition import Partition, class_counts, everything, partition

__all__ = [
    "FeatureBank",
    "Partition",
    "Split",
    "class_counts",
    "class_grid",
    "everything",
    "load_bank",
    "partition",
    "take_shots",
]
