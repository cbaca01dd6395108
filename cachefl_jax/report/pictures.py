"""The contact sheet: the server's images, and the clients' of the same class beside them."""

import base64
import io
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from cachefl_jax.report import captions
from cachefl_jax.report.workdir import Run

MOST_CLASSES = 24
FEWEST, MOST_IMAGES = 6, 8  # of a class and kind
SIDE = 64  # pixels that the longer side of an image takes
GAP = 4  # pixels between images


class ClassPictures(NamedTuple):
    """One class: its name and its two strips as data URIs, with the number of images on each."""

    name: str
    synthetic: str
    synthetic_count: int
    real: str
    real_count: int


def shown(run: Run, most: int = MOST_CLASSES) -> dict[str, Any]:
    """What the page shows of a run's images, of at most so many classes, and what it says of them."""
    sheet = contact_sheet(run, most)
    how = captions.no_pictures(run) if run.synthetic is None else captions.pictures(run, len(sheet))
    return {"pictures": sheet, "most": most_images(sheet), "how": how}


def contact_sheet(run: Run, most: int) -> list[ClassPictures]:
    """A strip of the server's and one of the clients' images for each class, or for ``most`` evenly among many.

    Empty where the run left no images.
    """
    if run.synthetic is None:
        return []
    classes = len(run.class_names)
    shown = np.unique(np.linspace(0, classes - 1, min(classes, most)).round().astype(int))
    return [class_pictures(run.class_names[index], run.synthetic[index], run.real[index]) for index in shown]


def class_pictures(name: str, synthetic: np.ndarray, real: np.ndarray) -> ClassPictures:
    drawn, photographed = synthetic[:MOST_IMAGES], real[:MOST_IMAGES]
    return ClassPictures(name, strip(drawn), len(drawn), strip(photographed), len(photographed))


def most_images(sheet: list[ClassPictures]) -> int:
    """How many images a full row of the sheet has room for; at least ``FEWEST``, so that few do not grow huge."""
    return max([FEWEST, *(max(row.synthetic_count, row.real_count) for row in sheet)])


def strip(images: np.ndarray) -> str:
    """Images [k, H, W, 3] uint8 side by side as the data URI of one PNG; "" where there are none."""
    if not images.size:
        return ""
    tiles = [tile(image) for image in images]
    height, width = tiles[0].shape[:2]
    sheet = Image.new("RGBA", (len(tiles) * (width + GAP) - GAP, height))
    for index, pixels in enumerate(tiles):
        sheet.paste(Image.fromarray(pixels), (index * (width + GAP), 0))
    file = io.BytesIO()
    sheet.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def tile(image: np.ndarray) -> np.ndarray:
    """An image [H, W, 3] at about ``SIDE``: small ones in whole multiples, so that their pixels stay sharp."""
    height, width = image.shape[:2]
    factor = SIDE // max(height, width)
    if factor >= 1:
        return image.repeat(factor, axis=0).repeat(factor, axis=1)
    ratio = SIDE / max(height, width)
    size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))
