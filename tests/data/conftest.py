"""Small images on disk."""

import pathlib

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from cachefl_jax.config import default


@pytest.fixture
def make_images(tmp_path):
    """Writes that many 6x5 images into folders of tmp_path, like {"train/cat": 3}; gives tmp_path."""

    def make(folders: dict[str, int], suffix: str = ".png") -> pathlib.Path:
        rng = np.random.default_rng(0)
        for folder, count in folders.items():
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (6, 5, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / folder / f"{number}{suffix}")
        return tmp_path

    return make


@pytest.fixture
def config_of():
    """A run's config with these data fields."""

    def make(name: str, **fields) -> ConfigDict:
        config = default()
        config.data.name = name
        for field, value in fields.items():
            config.data[field] = str(value) if isinstance(value, pathlib.Path) else value
        return config

    return make
