"""Images as a checkpoint wants them: resized, cropped, rescaled and normalised, [H, W, 3] float32.

The steps and their numbers come from the checkpoint's ``preprocessor_config.json``. The result equals that of Hugging
Face's own ``CLIPImageProcessorPil`` and ``SiglipImageProcessorPil`` (tests/clip/test_images.py), which resize by Pillow
as OpenAI's CLIP did. Where torchvision is installed, transformers 5 prefers its torchvision processors: these resize
with other rounding, and a few pixels differ from Pillow's by one or two of the 255 levels.

No step looks at a picture's EXIF orientation, and neither do the processors: whoever opens a file turns it upright.
Axis letters: B batch, H W image.
"""

import json
import math
import pathlib
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from PIL import Image

from cachefl_jax.clip.checkpoint import is_open_clip
from cachefl_jax.errors import UsageError
from cachefl_jax.foreign_code import refuse_code

FIELD = "clip.checkpoint"
MOST = 4096  # pixels a side of an image: more is no tower's, and would fill the memory
MOST_RESIZED = 2**28  # pixels of an image once its shorter side is as the tower takes it: 1 GiB in Pillow
CROPPING = {"size": {"shortest_edge": 224}, "do_center_crop": True, "crop_size": {"height": 224, "width": 224}}
SQUASHING = {"size": {"height": 224, "width": 224}, "do_center_crop": False}
# What each processor does where its file is silent; the first is every old checkpoint's, whose file names none.
DEFAULTS = {
    "CLIPImageProcessor": {
        **CROPPING,
        "image_mean": (0.48145466, 0.4578275, 0.40821073),
        "image_std": (0.26862954, 0.26130258, 0.27577711),
    },
    "SiglipImageProcessor": {**SQUASHING, "image_mean": 0.5, "image_std": 0.5},
}
OLD_NAMES = {"CLIPFeatureExtractor": "CLIPImageProcessor"}


class Preparation(NamedTuple):
    """What a checkpoint does to an image before its vision tower sees it."""

    resize: int | tuple[int, int] | None  # the shorter side, or (height, width); None keeps the size
    crop: tuple[int, int] | None  # (height, width) of the middle, filled up with zeros; None keeps all
    resample: int  # one of PIL.Image.Resampling
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    scale: float = 1 / 255
    white: bool = True  # what is transparent becomes white; otherwise transparency is ignored
    half_to_even: bool = False  # where half a pixel is left over, the crop starts at the even one; otherwise before it

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) of what comes out; None where that depends on the image."""
        return self.crop or (self.resize if isinstance(self.resize, tuple) else None)


def read_preparation(directory: pathlib.Path) -> Preparation:
    """The steps in ``preprocessor_config.json``, or under "image_processor" in ``processor_config.json``, as
    transformers 5 saves them with a tokenizer; those of open_clip for a checkpoint in its format.

    Raises UsageError: the file cannot be read, or asks for what is not done here: the file and the key are named."""
    if is_open_clip(directory):
        from cachefl_jax.clip.open_clip_config import read_open_clip_preparation

        return read_open_clip_preparation(directory)
    path, fields = read_fields(directory)
    kind = fields.get("image_processor_type") or fields.get("feature_extractor_type") or "CLIPImageProcessor"
    kind = str(kind).removesuffix("Fast").removesuffix("Pil")
    kind = OLD_NAMES.get(kind, kind)
    if kind not in DEFAULTS:
        mend = "name a CLIP or SigLIP checkpoint"
        raise UsageError(f"{path}: image_processor_type", kind, " | ".join(DEFAULTS), mend)
    fields = DEFAULTS[kind] | fields
    switches = ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb", "do_pad")
    does = {key: read_switch(path, fields, key) for key in switches}
    if does["do_pad"]:
        raise UsageError(f"{path}: do_pad", True, "false", "name a checkpoint whose images are not padded")
    return Preparation(
        resize=read_size(path, fields, "size") if does["do_resize"] else None,
        crop=read_crop(path, fields) if does["do_center_crop"] else None,
        resample=read_resample(path, fields),
        mean=read_channels(path, fields, "image_mean") if does["do_normalize"] else (0.0, 0.0, 0.0),
        std=read_channels(path, fields, "image_std") if does["do_normalize"] else (1.0, 1.0, 1.0),
        scale=read_scale(path, fields) if does["do_rescale"] else 1.0,
        white=does["do_convert_rgb"],
    )


def read_fields(directory: pathlib.Path) -> tuple[pathlib.Path, dict]:
    """(the file, its settings of the images)."""
    path, joint = directory / "preprocessor_config.json", directory / "processor_config.json"
    nested = not path.is_file() and joint.is_file()
    path = joint if nested else path
    mend = "take the file from the checkpoint's page"
    try:
        fields = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(FIELD, f"{path} ({type(error).__name__})", "a readable JSON file", mend) from error
    if nested and isinstance(fields, dict):
        refuse_code(path, fields)
        fields = fields.get("image_processor")
    if not isinstance(fields, dict):
        raise UsageError(FIELD, f"{path} ({type(fields).__name__})", "a JSON object of settings", mend)
    refuse_code(path, fields)
    return path, fields


def read_switch(path: pathlib.Path, fields: dict, key: str) -> bool:
    value = fields.get(key, key != "do_pad")
    if value is None:  # transformers lets a null default to no
        return False
    if not isinstance(value, bool):
        refuse(path, key, value, "true | false")
    return value


def read_size(path: pathlib.Path, fields: dict, key: str) -> int | tuple[int, int]:
    """A bare number (older files) or {"shortest_edge"}: the shorter side; {"height", "width"}: both sides."""
    value = fields[key]
    bare = value if isinstance(value, dict) else {"shortest_edge": value}
    sides = {name: side for name, side in bare.items() if side is not None}
    whole = all(isinstance(side, int) and not isinstance(side, bool) and 0 < side <= MOST for side in sides.values())
    if not whole or set(sides) not in ({"shortest_edge"}, {"height", "width"}):
        allowed = f'at most {MOST} pixels, as a number, {{"shortest_edge": ...}} or {{"height": ..., "width": ...}}'
        refuse(path, key, value, allowed)
    if "height" in sides:
        return sides["height"], sides["width"]
    square = fields.get("default_to_square") and not isinstance(value, dict)
    return (sides["shortest_edge"],) * 2 if square else sides["shortest_edge"]


def read_crop(path: pathlib.Path, fields: dict) -> tuple[int, int]:
    if "crop_size" not in fields:
        refuse(path, "crop_size", "nothing", "a number of pixels, with do_center_crop")
    sides = read_size(path, fields, "crop_size")
    return sides if isinstance(sides, tuple) else (sides, sides)


def read_resample(path: pathlib.Path, fields: dict) -> int:
    value = fields.get("resample", Image.Resampling.BICUBIC)
    if isinstance(value, bool) or value not in list(Image.Resampling):
        refuse(path, "resample", value, "0 to 5, Pillow's filters (3 is bicubic)")
    return int(value)


def read_channels(path: pathlib.Path, fields: dict, key: str) -> tuple[float, float, float]:
    """A number a channel, or one for all three."""
    value = fields[key]
    numbers = tuple(value) if isinstance(value, (list, tuple)) else (value,) * 3
    above = 0 if key == "image_std" else -math.inf
    if len(numbers) != 3 or not all(is_number(number) and number > above for number in numbers):
        refuse(path, key, value, "three finite numbers, a deviation above 0")
    return tuple(map(float, numbers))


def read_scale(path: pathlib.Path, fields: dict) -> float:
    value = fields.get("rescale_factor", 1 / 255)
    if not is_number(value):
        refuse(path, "rescale_factor", value, "a finite number, 1/255 as a rule")
    return float(value)


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def refuse(path: pathlib.Path, key: str, value: object, allowed: str):
    raise UsageError(f"{path}: {key}", value, allowed, "take the file from the checkpoint's page")


def prepare(image: Image.Image | np.ndarray, preparation: Preparation) -> np.ndarray:
    """One image, PIL or uint8 [H, W] or [H, W, 3], as the vision tower takes it: [H, W, 3] float32."""
    # The product is rounded to float32 once, as the processors do it.
    pixels = (shaped(image, preparation) * np.float64(preparation.scale)).astype(np.float32)
    return (pixels - np.asarray(preparation.mean, np.float32)) / np.asarray(preparation.std, np.float32)


def prepare_all(images: Iterable[Image.Image | np.ndarray], preparation: Preparation) -> np.ndarray:
    """A batch of images, [B, H, W, 3] float32."""
    return np.stack([prepare(image, preparation) for image in images])


def shaped(image: Image.Image | np.ndarray, preparation: Preparation) -> np.ndarray:
    """One image resized and cropped, but neither rescaled nor normalised: [H, W, 3] uint8; itself, where it is so."""
    if isinstance(image, np.ndarray) and is_shaped(image, preparation):
        return image
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture = opaque(picture) if preparation.white else picture.convert("RGB")
    picture = picture.resize(resized_size(picture.size, preparation.resize), preparation.resample)
    if preparation.crop:
        height, width = preparation.crop
        spare = picture.width - width, picture.height - height
        left, top = (round(side / 2) if preparation.half_to_even else side // 2 for side in spare)
        picture = picture.crop((left, top, left + width, top + height))
    return np.asarray(picture)


def is_shaped(image: np.ndarray, preparation: Preparation) -> bool:
    """Whether `shaped` would copy the picture and no more: passing it through Pillow costs more than a tower does."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        return False
    size = image.shape[1::-1]
    same = resized_size(size, preparation.resize) == size
    return same and preparation.crop in (None, image.shape[:2])


def resized_size(size: tuple[int, int], wanted: int | tuple[int, int] | None) -> tuple[int, int]:
    """(width, height) after resizing a picture of `size`, (width, height) too."""
    if wanted is None:
        return size
    if isinstance(wanted, tuple):
        return wanted[1], wanted[0]
    shorter = min(size)
    return wanted * size[0] // shorter, wanted * size[1] // shorter  # rounded down, as Hugging Face does


def check_resized(image: Image.Image | np.ndarray, preparation: Preparation, name: str) -> None:
    """Refuses an image that would fill the memory once resized: of one by a million pixels a tower's shorter side of
    336 makes 336 by 336 million.

    Raises UsageError: more than `MOST_RESIZED` pixels would come of it."""
    width, height = size = image.size if isinstance(image, Image.Image) else image.shape[1::-1]
    wider, higher = resized_size(size, preparation.resize)
    if wider * higher > max(MOST_RESIZED, width * height):
        found = f"{width} x {height} pixels, which the checkpoint's preparation makes {wider} x {higher}"
        raise UsageError(name, found, f"at most {MOST_RESIZED:,} pixels once resized", "crop it, or move it away")


def opaque(picture: Image.Image) -> Image.Image:
    """Any mode to RGB; what is transparent becomes white, as in Hugging Face's processor."""
    if "A" not in picture.getbands() and picture.info.get("transparency") is None:
        return picture.convert("RGB")
    white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")
