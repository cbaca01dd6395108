"""FedPFT's protocol as Flower's baseline has it (arXiv 2402.01862, section 5.2; Apache-2.0): Caltech101 by CLIP
ViT-B/32, dealt to 50 clients by Dirichlet 0.1; 20 rounds of one local epoch in batches of 64, or one round.

    python -m experiments.study --config=experiments/configs/studies/fedpft.py --workdir=runs/fedpft

The images are those of data.name=caltech101: the background and the second set of faces are left out, where Flower's
copy has 102 classes. The server's images, which FedPFT does without, are drawn as by `cachefl_jax.configs.images`.
"""

from ml_collections import ConfigDict

from cachefl_jax.configs import images
from cachefl_jax.configs.studies import ROWS


def get_config() -> ConfigDict:
    config = images.get_config("caltech101")
    config.clip.checkpoint = "timm/vit_base_patch32_clip_224.openai"
    config.partition.clients, config.partition.concentration = 50, 0.1
    config.rounds, config.local.batch_size = 20, 64
    config.compare = ROWS
    return config
