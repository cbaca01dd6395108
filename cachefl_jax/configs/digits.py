"""The demo: real handwriting at 20 clients under a strong label skew, keys from images that a diffusion model drew.

    python -m experiments.run --config=experiments/configs/digits.py --workdir=runs/digits
    python -m experiments.run --config=experiments/configs/digits.py:smoke --workdir=runs/smoke

alpha, beta, learning rate and rounds are the best of the grid in `sweep` by validation accuracy, mean of two seeds:

    python -m experiments.sweep --config=experiments/configs/digits.py --workdir=runs/sweep

The rows beside CacheFL train by values of their own, which a study of these data chose by validation accuracy, 24
points for each:

    python -m experiments.study --config=experiments/configs/studies/demo.py --workdir=runs/study
"""

import itertools

from ml_collections import ConfigDict

from cachefl_jax.config import default

COMPARED = (
    "zero_shot", "cache_init", "local_only", "cachefl", "linear_probe", "class_directions", "ridge", "features_once",
    "centralized",
)  # fmt: skip
OVERRIDES = (  # "cachefl@alone" and not "local_only": the values suit CacheFL, and no other config.method
    "linear_probe: local.optimizer=sgd", "linear_probe: local.learning_rate=0.03",
    "ridge: ridge.mix=1000.0", "ridge: ridge.penalty=0.01",
    "cachefl@alone: local.learning_rate=0.0003", "cachefl@alone: cache.beta=1.0",
    "cachefl@centralized: local.learning_rate=0.003",
    "cachefl@centralized: cache.alpha=10.0", "cachefl@centralized: cache.beta=5.0",
    "cachefl@features_once: local.learning_rate=0.001",
    "cachefl@features_once: cache.alpha=10.0", "cachefl@features_once: cache.beta=5.0",
)  # fmt: skip


def get_config(variant: str = "") -> ConfigDict:
    """The demo's config; 'smoke' is the same path in a few seconds."""
    config = default()
    config.cache.alpha, config.cache.beta = 50.0, 0.25
    config.local.learning_rate = 1e-2
    config.rounds, config.checkpoint_every = 200, 50
    if variant == "smoke":
        config.synthesis.images_per_class = 2
        config.synthesis.steps = 4
        config.cache.keys_per_class = 2
        config.partition.clients = 4
        config.rounds = 2
    elif variant:
        raise ValueError(f"no variant {variant!r}: 'smoke' is the only one")
    else:
        config.compare, config.overrides = COMPARED, OVERRIDES
    return config


def sweep(add) -> None:
    """The grid that the demo's values were chosen from: CacheFL alone, each point with two seeds."""
    grid = itertools.product((20.0, 50.0, 100.0), (0.25, 0.5), (5e-3, 1e-2), (100, 200), (0, 1))
    for alpha, beta, learning_rate, rounds, seed in grid:
        add(
            **{"cache.alpha": alpha, "cache.beta": beta, "local.learning_rate": learning_rate},
            **{"rounds": rounds, "eval_every": rounds, "seed": seed, "methods": ("cachefl",)},
        )
