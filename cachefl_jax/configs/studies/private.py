"""Accuracy against epsilon: clients that take part in every round, with noise at the server and by other mechanisms.

    python -m experiments.study --config=experiments/configs/studies/private.py --workdir=runs/private_study
    python -m experiments.study --config=experiments/configs/studies/private.py:bank \
        --config.data.path=X.npz --workdir=runs/private_bank

100 clients, every row with values of its own by validation accuracy for each epsilon, the norm S among them. What
choosing tells of validation rows is not in epsilon.
"""

from ml_collections import ConfigDict

from cachefl_jax.configs import digits, feature_bank

EPSILONS = (1.0, 2.0, 4.0, 8.0)
BESIDE = 4.0  # the epsilon at which other mechanisms stand beside


def get_config(data: str = "digits") -> ConfigDict:
    """The demo's images, or with `bank` a feature bank that `data.path` names."""
    config = feature_bank.get_config() if data == "bank" else digits.get_config()
    config.partition.clients, config.rounds, config.checkpoint_every = 100, 40, 40
    config.compare, config.overrides = ("cachefl", "linear_probe"), ()
    config.aggregation.name, config.privacy.accountant, config.privacy.clip_norm = "uniform", "rdp", 0.3
    config.study.budget, config.study.seeds = 12, 3
    return config


def study(add) -> None:
    """No noise, each epsilon by `gaussian`, and two more mechanisms at one."""
    add(**{"privacy.mechanism": "none"})
    for epsilon in EPSILONS:
        add(**{"privacy.mechanism": "gaussian", "privacy.epsilon": epsilon})
    add(**{"privacy.mechanism": "matrix", "privacy.epsilon": BESIDE})
    add(**{"privacy.mechanism": "distributed", "privacy.epsilon": BESIDE, "aggregation.name": "secure_uniform"})
