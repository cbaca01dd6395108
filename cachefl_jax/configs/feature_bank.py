"""Your own features: any bank by its path.

python -m experiments.run --config=experiments/configs/feature_bank.py --config.data.path=X.npz --workdir=DIR
"""

from ml_collections import ConfigDict

from cachefl_jax.config import default


def get_config() -> ConfigDict:
    config = default()
    config.data.name = "feature_bank"
    config.synthesis.source = "bank"
    config.partition.clients = 10
    config.cache.keys_per_class = 2
    config.cache.alpha = 10.0
    config.cache.beta = 1.0
    config.local.learning_rate = 3e-3
    config.rounds = 20
    return config


def sweep(add) -> None:
    """The grid that the values above were chosen from, by validation accuracy."""
    for alpha in (1.0, 3.0, 10.0):
        for beta in (1.0, 5.0):
            for learning_rate in (1e-3, 3e-3, 1e-2):
                add(**{"cache.alpha": alpha, "cache.beta": beta, "local.learning_rate": learning_rate})
