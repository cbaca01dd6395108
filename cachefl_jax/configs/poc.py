"""The proof of concept: folders of sites in, a decision out.

python -m experiments.poc --sites=FOLDER [--synthetic=FOLDER] [--current=predictions.csv] --workdir=DIR
"""

from ml_collections import ConfigDict

from cachefl_jax.config import default

ROWS = (
    "zero_shot", "cache_init", "local_only", "cachefl", "linear_probe", "class_directions", "ridge", "gda",
    "features_once", "centralized",
)  # fmt: skip


def get_config() -> ConfigDict:
    """Folders of sites, each divided by class into training, validation and test; the start of `feature_bank`."""
    config = default()
    config.data.name, config.data.group_column = "image_folder", "folder"
    config.data.held_out_of, config.data.duplicates = "site", "together"
    config.data.validation_share, config.data.test_share = 0.15, 0.25
    config.partition.name, config.partition.clients = "natural", 0
    config.evaluation.client_rows = "site"
    config.synthesis.source, config.synthesis.images_per_class = "held_out", 8
    config.cache.keys_per_class, config.cache.alpha, config.cache.beta = 8, 10.0, 1.0
    config.local.optimizer, config.local.learning_rate = "sgd", 0.1
    config.rounds = 30
    config.compare = ROWS
    return config
