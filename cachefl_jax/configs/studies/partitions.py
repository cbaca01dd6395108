"""Any of the shipped configs, and every method on frozen features in one table: 10 clients, IID and under a strong
label skew, 5 seeds.

    python -m experiments.study --config=experiments/configs/studies/partitions.py:digits --workdir=runs/digits
    python -m experiments.study --config=experiments/configs/studies/partitions.py:feature_bank \
        --config.data.path=X.npz --workdir=runs/bank
    python -m experiments.study --config=experiments/configs/studies/partitions.py:image_folder \
        --config.data.path=FOLDER --workdir=runs/images

What stands behind the colon is a config of `cachefl_jax.configs`, or a data set that its `images` takes.
"""

import importlib

from ml_collections import ConfigDict

from cachefl_jax.configs import images
from cachefl_jax.configs.studies import ROWS

CONFIGS = ("digits", "fashion_mnist", "feature_bank")


def get_config(name: str = "digits") -> ConfigDict:
    """The study of that config's data."""
    given = name in CONFIGS
    config = importlib.import_module(f"cachefl_jax.configs.{name}").get_config() if given else images.get_config(name)
    config.partition.clients = 10
    config.compare, config.overrides, config.study.seeds = ROWS, (), 5
    return config


def study(add) -> None:
    """Rows dealt evenly, and by Dirichlet 0.1."""
    add(**{"partition.name": "iid"})
    add(**{"partition.name": "dirichlet", "partition.concentration": 0.1})
