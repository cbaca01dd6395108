"""Which files are images: what Pillow can open and decode.

A picture may claim more pixels than memory holds, so there is a limit, `data.max_pixels`.
"""

import functools
import os
import warnings

from PIL import Image

LIMIT = "data.max_pixels"
# Pillow knows these and decodes none of them itself: it needs a handler of the user's own or, for EPS, starts
# Ghostscript, a program that no image of unknown origin should reach.
NOT_DECODED = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
# Pillow warns from half the limit up. What is below the limit is decoded, so that the warning tells nothing.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def limit_pixels(most: int) -> None:
    """Lets no picture of more than `most` pixels be decoded in this process."""
    Image.MAX_IMAGE_PIXELS = most // 2  # Pillow refuses what has more than twice as many


def pixels_allowed() -> int:
    """The limit of now."""
    return 2 * Image.MAX_IMAGE_PIXELS


@functools.cache
def suffixes() -> dict[str, str]:
    """Every suffix of a format that Pillow decodes, such as ".png", with its format's name."""
    Image.init()
    decoded = (Image.OPEN.keys() | {"MPO"}) - NOT_DECODED  # MPO, of stereo cameras, is opened as JPEG
    return {suffix: kind for suffix, kind in Image.registered_extensions().items() if kind in decoded}


@functools.cache
def formats() -> tuple[str, ...]:
    """The names of the formats that are decoded, as `PIL.Image.open` takes them."""
    Image.init()
    return tuple(kind for kind in Image.OPEN if kind not in NOT_DECODED)


def is_image(path: str) -> bool:
    """Whether a file's suffix is an image's; a file without a suffix is opened to tell."""
    suffix = os.path.splitext(path)[1].lower()
    return suffix in suffixes() if suffix else begins_as_image(path)


def begins_as_image(path: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=formats()):
                return True
    except Image.DecompressionBombError:
        return True  # too large to be decoded: this is told where images are decoded
    except Exception:  # on bytes that are no image a decoder may raise anything
        return False
