"""Few shots, as FLIP's benchmark of federated prompt learning has them (arXiv 2503.22263): 8 and 16 training images a
class among 10 clients by Dirichlet 0.1, with the prompts beside the methods on features.

    python -m experiments.study --config=experiments/configs/studies/flip.py:caltech101 --workdir=runs/flip

Another data set by its data.name. Data, checkpoint and generator come from the hub, as by `cachefl_jax.configs.images`.
"""

from ml_collections import ConfigDict

from cachefl_jax.configs import images
from cachefl_jax.configs.studies import ROWS


def get_config(name: str = "caltech101") -> ConfigDict:
    """The benchmark on the data set of this name."""
    config = images.get_config(name)
    config.partition.clients, config.partition.concentration = 10, 0.1
    config.compare = (*ROWS, "prompt_fl", "fed_tpg")
    return config


def study(add) -> None:
    """Both numbers of shots."""
    for shots in (8, 16):
        add(**{"data.shots": shots})
