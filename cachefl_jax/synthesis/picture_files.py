"""Files of drawn images: every pixel kept, and in the file's own metadata what it was drawn from.

PNG holds this as a text chunk named "cachefl"; WebP, and what else knows EXIF, as JSON in EXIF's ImageDescription.
"""

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cachefl_jax.data.formats import formats

KEY = "cachefl"
DESCRIPTION = 0x010E  # EXIF's tag of a text about the image
OPTIONS = {"png": {"format": "PNG", "compress_level": 6}, "webp": {"format": "WEBP", "lossless": True, "method": 2}}


def encode_picture(pixels: np.ndarray, facts: Mapping[str, Any], file_format: str) -> bytes:
    """The bytes of an image file with its metadata; equal pixels and facts give equal bytes.

    Args:
        pixels: [H, W, 3] uint8.
        facts: what the image was drawn from, for JSON.
        file_format: 'png' or 'webp'; neither loses a pixel."""
    text, file = json.dumps(dict(facts), sort_keys=True, allow_nan=False), io.BytesIO()
    info, exif = PngInfo(), Image.Exif()
    info.add_text(KEY, text)
    exif[DESCRIPTION] = f'{{"{KEY}": {text}}}'
    metadata = {"pnginfo": info} if file_format == "png" else {"exif": exif.tobytes()}
    Image.fromarray(pixels).save(file, **OPTIONS[file_format], **metadata)
    return file.getvalue()


def facts_in(path: str) -> dict[str, Any]:
    """What an image file says it was drawn from, with the keys of `encode_picture`'s facts; {} where it says nothing.

    It is what a file's maker wrote: text to show, to be trusted no more than the file."""
    try:
        with Image.open(path, formats=formats()) as image:
            described = image.getexif().get(DESCRIPTION)
            found = json.loads(described)[KEY] if described else json.loads(image.info[KEY])
    except Exception:  # on damaged metadata a decoder may raise anything; whoever decodes the pixels tells of these
        return {}
    return found if isinstance(found, dict) else {}
