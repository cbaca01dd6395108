"""Images as a checkpoint wants them: resized, cropped, rescaled and normalised, [H, W, 3] float32.

The steps and their numbers come from the checkpoint's ``preprocessor_config.json``; the result equals that of
Hugging Face's own ``CLIPImageProcessor`` (tests/clip/test_images.py).
"""

import json
import pathlib
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from PIL import Image

from cachefl_jax.errors import UsageError


class Preparation(NamedTuple):
    """What a checkpoint does to an image before its vision tower sees it."""

    shortest_edge: int
    crop: int
    resample: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    scale: float = 1 / 255


def read_preparation(directory: pathlib.Path) -> Preparation:
    """Reads ``preprocessor_config.json``; older files give bare sizes where newer ones give a mapping."""
    path = directory / "preprocessor_config.json"
    try:
        fields = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        mend = "take the file from the checkpoint's page"
        raise UsageError("clip.checkpoint", f"{path} ({type(error).__name__})", "a readable JSON file", mend) from error
    size, crop = fields["size"], fields.get("crop_size", fields["size"])
    return Preparation(
        shortest_edge=size if isinstance(size, int) else size.get("shortest_edge", size.get("height")),
        crop=crop if isinstance(crop, int) else crop.get("height", crop.get("shortest_edge")),
        resample=fields.get("resample", Image.Resampling.BICUBIC),
        mean=tuple(fields["image_mean"]),
        std=tuple(fields["image_std"]),
        scale=fields.get("rescale_factor", 1 / 255),
    )


def prepare(image: Image.Image | np.ndarray, preparation: Preparation) -> np.ndarray:
    """One image, PIL or uint8 [H, W] or [H, W, 3], as the vision tower takes it: [crop, crop, 3] float32."""
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture = opaque(picture)
    width, height = picture.size
    ratio = preparation.shortest_edge / min(width, height)
    # Truncated, not rounded, as Hugging Face does; the shorter side is exact either way.
    width, height = (max(preparation.shortest_edge, int(side * ratio)) for side in (width, height))
    picture = picture.resize((width, height), preparation.resample)
    left, top = (width - preparation.crop) // 2, (height - preparation.crop) // 2
    picture = picture.crop((left, top, left + preparation.crop, top + preparation.crop))
    pixels = np.asarray(picture, np.float32) * np.float32(preparation.scale)
    return (pixels - np.asarray(preparation.mean, np.float32)) / np.asarray(preparation.std, np.float32)


def opaque(picture: Image.Image) -> Image.Image:
    """Any mode to RGB; what is transparent becomes white, as in Hugging Face's processor."""
    if "A" not in picture.getbands() and picture.info.get("transparency") is None:
        return picture.convert("RGB")
    white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")


def prepare_all(images: Iterable[Image.Image | np.ndarray], preparation: Preparation) -> np.ndarray:
    """A batch of images, [B, crop, crop, 3] float32."""
    return np.stack([prepare(image, preparation) for image in images])
