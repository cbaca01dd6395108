"""What a drawn image's file says of itself, and what is known of the images of a set."""

import json

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cachefl_jax.data.images import Images, LabelledImages, fingerprint_of, read_image, select
from cachefl_jax.errors import UsageError
from cachefl_jax.simulation.server_set import joined
from cachefl_jax.synthesis.origins import Origin, origins
from cachefl_jax.synthesis.picture_files import encode_picture, facts_in

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 9, 7, 3), np.uint8)
FACTS = {"prompt": 'a "Kätzchen" <b>&amp; 猫', "seed": 2**48 - 1, "model": "pocket", "guidance": 1.5, "class": "cat"}


@pytest.fixture(params=["png", "webp"])
def files(request, tmp_path) -> list[str]:
    """Three images' files."""
    for row, pixels in enumerate(PIXELS):
        data = encode_picture(pixels, FACTS | {"seed": FACTS["seed"] - row}, request.param)
        (tmp_path / f"{row}.{request.param}").write_bytes(data)
    return [str(tmp_path / f"{row}.{request.param}") for row in range(len(PIXELS))]


def split_of(files: list[str]) -> LabelledImages:
    images = Images(len(files), lambda row: read_image(files[row]), files.__getitem__, files=True)
    return LabelledImages(images, np.zeros(len(files), np.int32), "of files")


def test_a_file_keeps_every_pixel_and_what_it_was_drawn_from(files):
    for row, file in enumerate(files):
        np.testing.assert_array_equal(np.asarray(read_image(file)), PIXELS[row])
        assert facts_in(file) == FACTS | {"seed": FACTS["seed"] - row}


@pytest.mark.parametrize("file_format", ["png", "webp"])
def test_the_same_picture_gives_the_same_bytes(file_format):
    facts = dict(reversed(FACTS.items()))
    assert encode_picture(PIXELS[0], FACTS, file_format) == encode_picture(PIXELS[0], facts, file_format)


def test_origins_tell_file_pixels_prompt_seed_and_model(files):
    found = origins(split_of(files))
    expected = [
        Origin(file, fingerprint_of(PIXELS[row]), FACTS["prompt"], FACTS["seed"] - row, "pocket")
        for row, file in enumerate(files)
    ]
    assert found == expected
    assert origins(select(split_of(files), np.array([2, 0]))) == [expected[2], expected[0]]


def test_beside_images_in_memory_files_still_tell(files):
    own = LabelledImages(PIXELS[:1, :, :, 0], np.zeros(1, np.int32), "of arrays")
    found = origins(joined(own, split_of(files)))
    grey = np.repeat(PIXELS[0, :, :, :1], 3, axis=-1)
    assert found[0] == Origin("image 0", fingerprint_of(grey))
    assert [origin.seed for origin in found] == [None, FACTS["seed"], FACTS["seed"] - 1, FACTS["seed"] - 2]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[" * 100_000,
        "7",
        "[]",
        json.dumps({"prompt": 3, "seed": "4", "model": ["x"]}),
        json.dumps({"seed": True, "prompt": None}),
    ],
)
def test_metadata_that_others_wrote_is_passed_over_where_it_is_none(tmp_path, text):
    info = PngInfo()
    info.add_text("cachefl", text)
    Image.fromarray(PIXELS[0]).save(tmp_path / "0.png", pnginfo=info)
    (found,) = origins(split_of([str(tmp_path / "0.png")]))
    assert found == Origin(str(tmp_path / "0.png"), fingerprint_of(PIXELS[0]))


def test_a_broken_image_is_named(files):
    with open(files[1], "r+b") as file:
        file.truncate(40)
    with pytest.raises(UsageError, match=f"image: got {files[1]}"):
        origins(split_of(files))
