"""The demo's data with a fifth of the clients hostile: every attack against every rule of aggregation, rows dealt
evenly and by Dirichlet 0.5; without an attack by Dirichlet 0.1 too; three seeds.

    python -m experiments.sweep --config=experiments/configs/hostile.py --workdir=runs/hostile
    python -m experiments.benchmarks.hostile --sweep=runs/hostile

The sweep's page ranks the rules within each attack and partition; the second command makes tables and a picture of
test accuracies. Rules that need to know how many are hostile are told the truth, a fifth. The demo has 20 clients.
"""

from ml_collections import ConfigDict

from cachefl_jax.config.hostile import KINDS
from cachefl_jax.configs import digits

RULES = ("mean", "median", "trimmed_mean", "krum", "multi_krum", "geometric_median", "fools_gold", "fl_trust")
LENGTH = 0.3  # of an update, at most
SEEDS = 3
OWN = {  # fields of a rule
    "trimmed_mean": {"aggregation.trim": 0.2},
    "fl_trust": {"synthesis.images_per_class": 64},  # 48 of a class that are no keys: what the server learns from
}


def get_config() -> ConfigDict:
    """The demo's config for 100 rounds."""
    config = digits.get_config()
    config.compare, config.overrides = ("zero_shot", "cache_init", "cachefl"), ()
    config.rounds = config.eval_every = 100
    return config


def rules() -> list[dict]:
    """The fields of every rule."""
    return [
        *({"aggregation.name": rule} | OWN.get(rule, {}) for rule in RULES),
        {"aggregation.name": "centred_clipping", "aggregation.radius": LENGTH},
        {"aggregation.name": "mean", "updates.transforms": ("clip",), "updates.clip_norm": LENGTH},
    ]


def sweep(add) -> None:
    """Every rule against every attack under two partitions, and against none under a third."""
    even, skewed = {"partition.name": "iid"}, {"partition.name": "dirichlet"}
    given = [(kind, part) for kind in KINDS for part in (even, skewed | {"partition.concentration": 0.5})]
    for kind, part in [*given, ("none", skewed | {"partition.concentration": 0.1})]:
        for rule in rules():
            for seed in range(SEEDS):
                add(**part, **{"hostile.kind": kind}, **rule, seed=seed)
