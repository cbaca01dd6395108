"""`selection` with two real images of each class among the keys, which one rule follows.

python -m experiments.sweep --config=experiments/configs/selection_real.py --workdir=runs/selection_real
"""

import itertools

from ml_collections import ConfigDict

from cachefl_jax.configs import selection


def get_config(name: str = "digits") -> ConfigDict:
    """As `selection.get_config`; a feature bank has no real images of the server's."""
    config = selection.get_config(name)
    config.synthesis.real_images = 2
    return config


def sweep(add) -> None:
    """As `selection.sweep`, and by the real images' mean."""
    for keys, seed, rule in itertools.product(selection.KEYS, selection.SEEDS, (*selection.RULES, "shots")):
        add(**{"cache.keys_per_class": keys, "seed": seed, "synthesis.selection": rule})
