"""The eleven data sets that the literature tunes CLIP on, each under four partitions among 10 clients, 3 seeds.

    python -m experiments.study --config=experiments/configs/studies/suite.py --workdir=runs/suite

For those with a hub: data, checkpoint and generator are downloaded as by `cachefl_jax.configs.images`. 44 settings of
every method on features take an accelerator a while; ``--config.compare="('zero_shot','cachefl','ridge')"`` takes fewer
rows.
"""

from ml_collections import ConfigDict

from cachefl_jax.configs import images
from cachefl_jax.configs.studies import ROWS

PARTITIONS = (
    {"partition.name": "iid"},
    {"partition.name": "dirichlet", "partition.concentration": 0.1},
    {"partition.name": "dirichlet", "partition.concentration": 0.5},
    {"partition.name": "pathological"},
)


def get_config() -> ConfigDict:
    """What all settings share."""
    config = images.get_config()
    config.compare = ROWS
    return config


def study(add) -> None:
    """Every data set under every partition."""
    for name in images.ALPHA:
        for partition in PARTITIONS:
            add(**{"data.name": name, **partition})
