"""Image preparation equals the checkpoint's own processor."""

import json

import numpy as np
import pytest
from PIL import Image, ImageOps
from transformers import CLIPImageProcessorPil, SiglipImageProcessorPil
from transformers.image_utils import load_image

from cachefl_jax.clip.checkpoint import POCKET
from cachefl_jax.clip.images import Preparation, prepare, prepare_all, read_preparation, shaped
from cachefl_jax.errors import UsageError

SIZES = [(8, 8), (32, 32), (33, 47), (100, 37), (37, 100), (31, 640), (1, 1), (70, 1), (1, 70), (2, 4001), (7001, 7)]
PROCESSORS = {"CLIPImageProcessor": CLIPImageProcessorPil, "SiglipImageProcessor": SiglipImageProcessorPil}
NORMS = {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
CLIP = {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 40}, "crop_size": 36, **NORMS}
SIGLIP = {"image_processor_type": "SiglipImageProcessor", "size": {"height": 40, "width": 40}, "image_mean": [0.5] * 3}
SIGLIP |= {"image_std": [0.5] * 3}

pytestmark = pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated:DeprecationWarning")


def picture(height: int, width: int, mode: str = "RGB") -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 4), dtype=np.uint8)
    return Image.fromarray(noise, "RGBA").convert(mode)


def palette_with_transparency() -> Image.Image:
    image = picture(45, 60, "RGB").quantize(16)
    image.info["transparency"] = 3
    return image


def sixteen_bit() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 65536, (45, 60), dtype=np.uint16))


def written(folder, fields: dict):
    """The preparation of a checkpoint whose file holds these fields, and the processor that it belongs to."""
    (folder / "preprocessor_config.json").write_text(json.dumps(fields))
    kind = fields.get("image_processor_type", "CLIPImageProcessor")
    return read_preparation(folder), PROCESSORS[kind].from_pretrained(folder)


def theirs(processor, image) -> np.ndarray:
    return processor(image, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)


@pytest.mark.parametrize("mode", ["RGB", "L", "LA", "RGBA", "P", "1", "CMYK", "YCbCr", "HSV", "I", "F"])
@pytest.mark.parametrize("size", SIZES)
def test_preparation_equals_the_checkpoints_own_processor(size, mode):
    image, processor = picture(*size, mode), CLIPImageProcessorPil.from_pretrained(POCKET)
    assert np.abs(prepare(image, read_preparation(POCKET)) - theirs(processor, image)).max() < 1e-6


@pytest.mark.parametrize("image", [palette_with_transparency(), sixteen_bit()], ids=["transparent palette", "16 bits"])
@pytest.mark.parametrize("fields", [CLIP, SIGLIP], ids=["CLIP", "SigLIP"])
def test_rarer_pictures_come_out_as_the_processors(tmp_path, fields, image):
    preparation, processor = written(tmp_path, fields)
    assert np.abs(prepare(image, preparation) - theirs(processor, image)).max() < 1e-6


ABSENT = object()
VARIANTS = {
    "defaults": {name: ABSENT for name in ("size", "crop_size", "image_mean", "image_std")},
    "bare size": {"size": 30},
    "bare size, squashed": {"size": 30, "default_to_square": True},
    "shortest edge": {"size": {"shortest_edge": 50}},
    "both sides": {"size": {"height": 44, "width": 38}},
    "odd crop": {"crop_size": {"height": 35, "width": 21}, "do_center_crop": True},
    "crop beyond the image": {"crop_size": 61, "do_center_crop": True},
    "crop beyond one side": {"crop_size": {"height": 20, "width": 83}, "do_center_crop": True},
    "no resize": {"do_resize": False, "crop_size": 30, "do_center_crop": True},
    "no crop": {"do_center_crop": False},
    "no rescale": {"do_rescale": False},
    "no normalise": {"do_normalize": False},
    "neither": {"do_rescale": False, "do_normalize": False},
    "as it is": {"do_convert_rgb": False},
    "nulls": {"do_convert_rgb": None, "do_center_crop": None, "crop_size": {"height": 30, "width": 30}},
    "bilinear": {"resample": 2},
    "lanczos": {"resample": 1},
    "another factor": {"rescale_factor": 1 / 127.5},
    "one number": {"image_mean": 0.5, "image_std": 0.25},
}


@pytest.mark.parametrize("fields", [CLIP, SIGLIP], ids=["CLIP", "SigLIP"])
@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())
@pytest.mark.parametrize("size", [(33, 47), (90, 41)])
def test_every_setting_is_followed(tmp_path, fields, changes, size):
    preparation, processor = written(
        tmp_path, {name: value for name, value in (fields | changes).items() if value is not ABSENT}
    )
    ours, expected = prepare(picture(*size), preparation), theirs(processor, picture(*size))
    assert ours.shape == expected.shape
    assert preparation.size in (None, ours.shape[:2])
    np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-6)


def test_files_of_many_ages_say_the_same(tmp_path):
    old = {"feature_extractor_type": "CLIPFeatureExtractor", "size": 40, "crop_size": 36, "do_resize": True, **NORMS}
    preparation, _ = written(tmp_path, old)
    assert preparation == written(tmp_path, CLIP)[0]
    assert preparation == written(tmp_path, CLIP | {"image_processor_type": "CLIPImageProcessor"})[0]
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps(CLIP | {"image_processor_type": "CLIPImageProcessorFast"})
    )
    assert preparation == read_preparation(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": CLIP, "processor_class": "x"}))
    assert preparation == read_preparation(tmp_path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_upright_picture_is_what_load_image_hands_to_the_processor(tmp_path, orientation):
    """The processors leave EXIF alone; the folder source turns pictures upright, as `load_image` does."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    smooth = picture(4, 6).resize((60, 45), Image.Resampling.BICUBIC)
    smooth.save(tmp_path / "photo.jpg", exif=exif, quality=95)
    preparation, processor = written(tmp_path, CLIP)
    expected = theirs(processor, load_image(str(tmp_path / "photo.jpg")))
    with Image.open(tmp_path / "photo.jpg") as photo:
        as_stored, upright = prepare(photo, preparation), prepare(ImageOps.exif_transpose(photo), preparation)
        assert np.abs(as_stored - theirs(processor, photo)).max() < 1e-6
    assert np.abs(upright - expected).max() < 1e-6
    assert (np.abs(as_stored - expected).max() > 0.1) == (orientation > 1)


def test_a_batch_of_grey_arrays_becomes_three_channels():
    pixels = prepare_all(np.zeros((5, 8, 8), np.uint8), read_preparation(POCKET))
    assert pixels.shape == (5, 32, 32, 3)
    assert pixels.dtype == np.float32


def test_shaped_pictures_are_bytes_that_no_further_step_moves():
    preparation = read_preparation(POCKET)
    once = shaped(picture(50, 70), preparation)
    assert once.dtype == np.uint8
    np.testing.assert_array_equal(shaped(once, preparation), once)
    assert preparation.size == once.shape[:2]


def test_transparency_is_white_or_ignored():
    clear = Image.new("RGBA", (4, 4), (10, 20, 30, 0))
    plain = Preparation(resize=None, crop=None, resample=3, mean=(0, 0, 0), std=(1, 1, 1), scale=1.0)
    assert prepare(clear, plain)[0, 0].tolist() == [255, 255, 255]
    assert prepare(clear, plain._replace(white=False))[0, 0].tolist() == [10, 20, 30]


def test_a_missing_preprocessor_config_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"preprocessor_config.json \(FileNotFoundError\)"):
        read_preparation(tmp_path)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"size": {"shortest_edge": 10**9}}, "size: got .*1000000000.*at most 4096 pixels"),
        ([1], r"preprocessor_config.json \(list\)"),
        ({"image_processor_type": "BitImageProcessor"}, "image_processor_type: got BitImageProcessor"),
        ({"size": {"longest_edge": 3}}, "preprocessor_config.json: size: got"),
        ({"size": {"shortest_edge": 3, "longest_edge": 5}}, "preprocessor_config.json: size: got"),
        ({"size": "large"}, "size: got large"),
        ({"size": 0}, "size: got 0"),
        ({"size": None}, "size: got None"),
        ({"crop_size": {"height": 3}}, "crop_size: got"),
        ({"crop_size": 3.5}, "crop_size: got 3.5"),
        ({"resample": 9}, "resample: got 9; allowed: 0 to 5"),
        ({"resample": "bicubic"}, "resample: got bicubic"),
        ({"image_mean": [0.5, 0.5]}, r"image_mean: got \[0.5, 0.5\]"),
        ({"image_std": [0.5, 0, 0.5]}, "image_std: got"),
        ({"image_std": 0}, "image_std: got 0"),
        ({"rescale_factor": "1/255"}, "rescale_factor: got 1/255"),
        ({"do_resize": "yes"}, "do_resize: got yes; allowed: true | false"),
        ({"do_pad": True}, "do_pad: got True"),
    ],
)
def test_what_cannot_be_followed_is_refused_by_file_and_key(tmp_path, fields, match):
    whole = CLIP | fields if isinstance(fields, dict) else fields
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(whole))
    with pytest.raises(UsageError, match=match) as refusal:
        read_preparation(tmp_path)
    assert "preprocessor_config.json" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_siglip_checkpoint_that_crops_must_say_how_much(tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(SIGLIP | {"do_center_crop": True}))
    with pytest.raises(UsageError, match="crop_size: got nothing"):
        read_preparation(tmp_path)
