"""A feature bank of yours, and every method on frozen features in one table: 10 clients, IID and under a strong label
skew, 5 seeds.

    python -m experiments.study --config=experiments/configs/studies/bank.py:X.npz --workdir=runs/bank

A bank without validation rows gives `data.validation_share` of every class's training rows for them.
"""

from ml_collections import ConfigDict

from cachefl_jax.configs import feature_bank
from cachefl_jax.configs.studies import ROWS


def get_config(path: str = "X.npz") -> ConfigDict:
    """The study of the bank at this path."""
    config = feature_bank.get_config()
    config.data.path = path
    config.compare, config.study.seeds = ROWS, 5
    return config


def study(add) -> None:
    """Rows dealt evenly, and by Dirichlet 0.1."""
    add(**{"partition.name": "iid"})
    add(**{"partition.name": "dirichlet", "partition.concentration": 0.1})
