"""Where features come from, and who holds them."""

from cachefl_jax.data.bank import FeatureBank, Split, take_shots
from cachefl_jax.data.bank_file import load_bank
from cachefl_jax.data.card import partition_card
from cachefl_jax.data.partition import Partition, everything, make_partition, partition_hash

__all__ = [
    "FeatureBank",
    "Partition",
    "Split",
    "everything",
    "load_bank",
    "make_partition",
    "partition_card",
    "partition_hash",
    "take_shots",
]
