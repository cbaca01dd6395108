"""Images of one colour hold nothing: what a safety checker blackened, what failed, what was empty from the start.

Axis letters: n images, H W image.
"""

import numpy as np
from PIL import Image

from cachefl_jax.data.images import Images, LabelledImages
from cachefl_jax.errors import UsageError


def one_colour(images: np.ndarray) -> np.ndarray:
    """Which of the images [n, H, W] or [n, H, W, 3] have the same value in every pixel, bool [n]."""
    return (images == images[:, :1, :1]).reshape(len(images), -1).all(axis=1)


def is_blank(image: Image.Image | np.ndarray) -> bool:
    """Whether an image is of one colour, or transparent all over."""
    if isinstance(image, np.ndarray):
        return bool(one_colour(image[None])[0])
    if image.mode not in ("RGB", "L"):
        image = image.convert("RGBA")
    extremes = image.getextrema()
    bands = [extremes] if image.mode == "L" else extremes
    if len(bands) == 4 and bands[3][1] == 0:
        return True
    return all(low == high for low, high in bands)


def without_blanks(split: LabelledImages) -> LabelledImages:
    """The same images, of which one that is blank is refused when it is asked for."""
    images = split.images
    name = getattr(images, "name", "image {}".format)

    def decode(row: int):
        image = images[row]
        if is_blank(image):
            mend = "replace or delete it, or have others taken: another seed, other prompts"
            raise UsageError("synthesis", f"{name(row)} (of one colour)", "images that show something, as keys", mend)
        return image

    return split._replace(images=Images(len(split.labels), decode, name))
