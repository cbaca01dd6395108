"""Images by the embedded pocket CLIP, every method in one table, prompts and towers too: small enough for two cores.

    python -m experiments.study --config=experiments/configs/studies/pocket.py:cifar10 --workdir=runs/pocket
    python -m experiments.study --config=experiments/configs/studies/pocket.py:image_folder \
        --config.data.path=FOLDER --config.synthesis.source=image_folder --config.synthesis.path=DRAWN \
        --workdir=runs/pocket

The pocket CLIP was trained on digits: on other images this compares ways to learn, and no accuracies that a CLIP of
the literature has.
"""

from ml_collections import ConfigDict

from cachefl_jax.config import default
from cachefl_jax.configs import images
from cachefl_jax.configs.studies import ON_FEATURES, ROWS, TOWERS


def get_config(name: str = "cifar10") -> ConfigDict:
    """The study of the data set of this name, or of a folder."""
    config = images.get_config(name)
    config.clip.checkpoint, config.clip.key_views = "pocket", 0
    config.clip.templates = ("a {}.",)  # of the 16 tokens that its text tower takes
    config.synthesis = default().synthesis
    config.synthesis.source = "held_out"
    config.compare = (*ROWS[:3], *ON_FEATURES, *TOWERS, *ROWS[3 + len(ON_FEATURES) :])
    config.rounds, config.study.seeds, config.study.budget = 5, 5, 12
    return config


def study(add) -> None:
    """Rows dealt evenly, and by Dirichlet 0.1."""
    add(**{"partition.name": "iid"})
    add(**{"partition.name": "dirichlet", "partition.concentration": 0.1})
