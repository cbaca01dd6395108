"""The demo: real handwriting at 20 clients under a strong label skew, keys from images that a diffusion model drew.

    python -m experiments.run --config=experiments/configs/digits.py --workdir=runs/digits
    python -m experiments.run --config=experiments/configs/digits.py:smoke --workdir=runs/smoke

alpha, beta, learning rate and rounds were chosen by validation accuracy from the grid in `sweep`.
"""

from ml_collections import ConfigDict

from cachefl_jax.config import default


def get_config(variant: str = "") -> ConfigDict:
    """The demo's config; 'smoke' is the same path in a few seconds."""
    config = default()
    if variant == "smoke":
        config.synthesis.images_per_class = 2
        config.synthesis.steps = 4
        config.cache.keys_per_class = 2
        config.partition.clients = 4
        config.rounds = 2
    elif variant:
        raise ValueError(f"no variant {variant!r}: 'smoke' is the only one")
    return config


def sweep(add) -> None:
    """The grid that the demo's values were chosen from."""
    for alpha in (3.0, 10.0, 30.0):
        for beta in (1.0, 3.0, 5.5):
            for learning_rate in (3e-3, 1e-2, 3e-2):
                add(**{"cache.alpha": alpha, "cache.beta": beta, "local.learning_rate": learning_rate})
