"""Image preparation equals the checkpoint's own processor."""

import json

import numpy as np
import pytest
from PIL import Image
from transformers import CLIPImageProcessorPil

from cachefl_jax.clip.images import prepare, prepare_all, read_preparation
from cachefl_jax.clip.weights import POCKET
from cachefl_jax.errors import UsageError

SIZES = [(8, 8), (32, 32), (33, 47), (100, 37), (37, 100), (31, 640), (1, 1)]


def picture(height: int, width: int, mode: str = "RGB") -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 4), dtype=np.uint8)
    return Image.fromarray(noise, "RGBA").convert(mode)


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated:DeprecationWarning")
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
@pytest.mark.parametrize("size", SIZES)
def test_preparation_equals_the_checkpoints_own_processor(size, mode):
    image, processor = picture(*size, mode), CLIPImageProcessorPil.from_pretrained(POCKET)
    theirs = processor(image, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
    assert np.abs(prepare(image, read_preparation(POCKET)) - theirs).max() < 1e-6


def test_a_batch_of_grey_arrays_becomes_three_channels():
    pixels = prepare_all(np.zeros((5, 8, 8), np.uint8), read_preparation(POCKET))
    assert pixels.shape == (5, 32, 32, 3)
    assert pixels.dtype == np.float32


def test_sizes_of_older_checkpoints_are_bare_numbers(tmp_path):
    fields = json.loads((POCKET / "preprocessor_config.json").read_text()) | {"size": 24, "crop_size": 20}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(fields))
    assert prepare(picture(30, 50), read_preparation(tmp_path)).shape == (20, 20, 3)


def test_a_missing_preprocessor_config_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"preprocessor_config.json \(FileNotFoundError\)"):
        read_preparation(tmp_path)
