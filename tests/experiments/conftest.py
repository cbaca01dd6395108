"""Pictures that even the pocket CLIP tells apart, in class folders, and a config that runs on them in a second."""

import pathlib
from collections.abc import Mapping

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from cachefl_jax.config import default

SIDE = 24
ROWS, COLUMNS = np.mgrid[:SIDE, :SIDE]
SHAPES = {
    "red square": ((220, 40, 40), (abs(ROWS - 12) < 7) & (abs(COLUMNS - 12) < 7)),
    "green disc": ((40, 200, 60), (ROWS - 12) ** 2 + (COLUMNS - 12) ** 2 < 50),
    "blue bar": ((60, 60, 230), abs(COLUMNS - 12) < 3),
}


@pytest.fixture(scope="session")
def make_pictures():
    """(root, {folder of a class: count}, seed=0, sites=()) -> root, with so many noisy PNGs of 24 x 24 in each folder,
    turn by turn in folders of the sites. A folder may spell its class in its own way."""

    def make(root: pathlib.Path, counts: Mapping[str, int], seed: int = 0, sites: tuple[str, ...] = ()) -> pathlib.Path:
        rng = np.random.default_rng(seed)
        for folder, count in counts.items():
            colour, shape = SHAPES[pathlib.PurePath(folder).name.lower().replace("_", " ")]
            for number in range(count):
                place = root / folder / (sites[number % len(sites)] if sites else "")
                place.mkdir(parents=True, exist_ok=True)
                pixels = rng.integers(0, 90, (SIDE, SIDE, 3))
                pixels[shape] += np.array(colour) // 2
                Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number:03d}.png")
        return root

    return make


@pytest.fixture(scope="session")
def config_for_images():
    """(root, **changes) -> a config of two rounds at three clients, keys from images held out of training."""

    def make(root: pathlib.Path, **changes) -> ConfigDict:
        config = default()
        config.data.name, config.data.path = "image_folder", str(root)
        config.synthesis.source, config.synthesis.images_per_class = "held_out", 3
        config.partition.clients, config.partition.concentration = 3, 1.0
        config.cache.keys_per_class, config.rounds, config.methods = 2, 2, ("cachefl",)
        config.local.batch_size, config.engine.devices, config.engine.strategy = 8, 1, "scan"
        config.update_from_flattened_dict(changes)
        return config

    return make
