"""The demo's data with a fifth of the clients hostile: every attack against one rule of aggregation, rows dealt evenly
and by Dirichlet 0.5; without an attack by Dirichlet 0.1 too.

    python -m experiments.sweep --config=experiments/configs/hostile.py:mean --workdir=runs/hostile/mean
    python -m experiments.sweep --config=experiments/configs/hostile.py:multi_krum --workdir=runs/hostile/multi_krum

What stands behind the colon is an `aggregation.name`, or `clip`: the mean of updates of length 0.3 at most.
"""

from ml_collections import ConfigDict

from cachefl_jax.config.hostile import KINDS
from cachefl_jax.configs import digits


def get_config(rule: str = "mean") -> ConfigDict:
    """The demo's config with this rule, for 100 rounds."""
    config = digits.get_config()
    config.compare, config.overrides = ("zero_shot", "cache_init", "cachefl"), ()
    config.rounds = config.eval_every = 100
    if rule == "clip":
        config.updates.transforms, config.updates.clip_norm = ("clip",), 0.3
    else:
        config.aggregation.name = rule
    if rule == "centred_clipping":
        config.aggregation.radius = 0.3
    return config


def sweep(add) -> None:
    """Every attack under both partitions, and none under the third."""
    for kind in KINDS:
        add(**{"hostile.kind": kind, "partition.name": "iid"})
        add(**{"hostile.kind": kind, "partition.name": "dirichlet", "partition.concentration": 0.5})
    add(**{"hostile.kind": "none", "partition.name": "dirichlet", "partition.concentration": 0.1})
