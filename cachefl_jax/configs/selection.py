"""Which of the server's images become keys: every rule of synthesis.selection, at 4 and 16 keys a class, five seeds.

    python -m experiments.sweep --config=experiments/configs/selection.py --workdir=runs/selection
    python -m experiments.sweep --config=experiments/configs/selection.py:feature_bank --config.data.path=X.npz \
        --workdir=runs/selection_bank
    python -m experiments.sweep --config=experiments/configs/selection.py:image_folder --config.data.path=FOLDER \
        --config.synthesis.path=DRAWN --workdir=runs/selection_images
    python -m experiments.benchmarks.selection runs/selection

The last command sets each rule against the first images of each class, seed by seed. Features are computed once.
`selection_real` does the same with two real images of each class among the keys, and has the rule that follows these.
"""

import itertools

from ml_collections import ConfigDict

from cachefl_jax.configs import digits, feature_bank
from cachefl_jax.configs.studies import pocket

RULES = ("first", "margin", "farthest", "medoids", "herding", "mixture", "means")
KEYS, SEEDS = (4, 16), range(5)


def get_config(name: str = "digits") -> ConfigDict:
    """The demo's images, of which the server draws 64 a class; a feature bank; or a folder, by the pocket CLIP."""
    configs = {"digits": digits.get_config, "feature_bank": feature_bank.get_config}
    config = configs[name]() if name in configs else pocket.get_config(name)
    if name not in configs:
        config.synthesis.source = "image_folder"
    config.synthesis.images_per_class = 64
    config.compare, config.overrides = ("cachefl",), ()
    config.checkpoint_every = config.rounds
    return config


def sweep(add) -> None:
    """Every rule, at both numbers of keys and by each seed."""
    for keys, seed, rule in itertools.product(KEYS, SEEDS, RULES):
        add(**{"cache.keys_per_class": keys, "seed": seed, "synthesis.selection": rule})
