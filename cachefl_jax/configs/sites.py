"""The demo's data among sites that differ, on a virtual clock: how often should sites and server meet?

    python -m experiments.sweep --config=experiments/configs/sites.py --workdir=runs/sites
    python -m experiments.benchmarks.update_frequency --workdir=runs/sites

The sweep has few local epochs a round and many rounds, and the other way round, for each preset of sites. The second
command compares them where equal virtual time has passed.
"""

from ml_collections import ConfigDict

from cachefl_jax.clock.presets import PRESETS
from cachefl_jax.configs import digits

EPOCHS = (1, 2, 4, 8)
IN_ALL = 128  # local epochs in all rounds


def get_config() -> ConfigDict:
    """The demo's config among offices, scored after every second round."""
    config = digits.get_config()
    config.compare, config.overrides = ("zero_shot", "cache_init", "cachefl"), ()
    config.participation.profiles, config.rounds, config.eval_every = "office", IN_ALL, 2
    return config


def sweep(add) -> None:
    """Every preset with each number of local epochs a round, and as many in all."""
    for name in PRESETS:
        for epochs in EPOCHS:
            add(**{"participation.profiles": name, "local.epochs": epochs, "rounds": IN_ALL // epochs})
