"""Images: the literature's data sets by name, or a folder of your own.

    python -m experiments.run --config=experiments/configs/images.py:eurosat --workdir=W
    python -m experiments.run --config=experiments/configs/images.py:eurosat --config.data.path=FOLDER --workdir=W
    python -m experiments.run --config=experiments/configs/images.py:image_folder --config.data.path=FOLDER --workdir=W

Without data.path a named data set, the checkpoint and the generator are downloaded from the Hugging Face hub. RN50
instead of ViT-B/16: ``--config.clip.checkpoint=timm/resnet50_clip.openai``. No generator at hand:
``--config.synthesis.source=held_out`` sets real images apart for the server.

All training images are taken; ``--config.data.shots=16`` takes 16 a class, as most of the literature on few shots has
it. They are dealt to 10 clients under a strong label skew. alpha is Tip-Adapter's by data set (arXiv
2111.03930, public code) and beta its 1.0, which were found for real keys; rounds and learning rate are a start. Choose
all of them on validation data:

    python -m experiments.sweep --config=experiments/configs/images.py:eurosat --workdir=DIR
"""

from ml_collections import ConfigDict

from cachefl_jax.config import default
from cachefl_jax.config.synthesis import SHIPPED

ALPHA = {
    "imagenet": 1.17, "caltech101": 3.0, "dtd": 2.0, "eurosat": 2.0, "fgvc_aircraft": 5.0, "food101": 1.17,
    "oxford_flowers": 10.0, "oxford_pets": 1.17, "stanford_cars": 3.0, "sun397": 1.17, "ucf101": 3.0,
}  # fmt: skip


def get_config(name: str = "eurosat") -> ConfigDict:
    """The config of a data set by its data.name."""
    config = default()
    config.data.name = name
    config.clip.checkpoint = "timm/vit_base_patch16_clip_224.openai"  # OpenAI's, in safetensors
    config.clip.key_views = 10
    config.synthesis.source = "diffusers"
    config.update_from_flattened_dict(SHIPPED)
    config.partition.clients = 10
    config.cache.alpha, config.cache.beta = ALPHA.get(name, 2.0), 1.0
    config.rounds = 50
    return config


def sweep(add) -> None:
    """A grid around the start, for validation data to choose from."""
    for alpha in (1.0, 3.0, 10.0):
        for beta in (1.0, 5.0):
            for learning_rate in (1e-3, 3e-3, 1e-2):
                fields = {"cache.alpha": alpha, "cache.beta": beta, "local.learning_rate": learning_rate}
                add(**fields, methods=("cachefl",))
