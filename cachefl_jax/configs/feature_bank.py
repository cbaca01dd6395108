"""Your own features: any bank by its path.

python -m experiments.run --config=experiments/configs/feature_bank.py --config.data.path=X.npz --workdir=DIR
"""

from ml_collections import ConfigDict

from cachefl_jax.config import default


def get_config() -> ConfigDict:
    """Values for a bank nobody has tuned for: of the points of `sweep` those that lie the least behind the best on
    validation rows of three banks (Caltech101, aircraft, CIFAR-10), dealt evenly and by Dirichlet 0.1: 1.6 percentage
    points on average, and 5.8 at most."""
    config = default()
    config.data.name = "feature_bank"
    config.synthesis.source = "bank"
    config.partition.clients = 10
    config.cache.keys_per_class = 2
    config.cache.alpha = 10.0
    config.cache.beta = 1.0
    config.local.optimizer, config.local.learning_rate = "sgd", 0.1
    config.rounds = 20
    return config


def sweep(add) -> None:
    """The grid that the values above were chosen from."""
    for beta in (1.0, 3.0):
        for optimizer, alphas, rates in (
            ("sgd", (3.0, 10.0, 30.0), (0.01, 0.03, 0.1, 0.3)),
            ("adamw", (1.0, 3.0, 10.0), (3e-4, 1e-3, 3e-3)),
        ):
            for alpha in alphas:
                for rate in rates:
                    fields = {"local.optimizer": optimizer, "local.learning_rate": rate}
                    add(**{"cache.alpha": alpha, "cache.beta": beta}, **fields)
