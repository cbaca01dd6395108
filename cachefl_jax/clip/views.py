"""Random views of images: a crop of half to all of the area, resized, and mirrored every other time.

A view is a function of (seed, view number, row number) alone: neither the batch, the thread nor a restart changes it.
Axis letters: V views, n images, H W image.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from cachefl_jax.clip.images import opaque

SCALE, RATIO = (0.5, 1.0), (3 / 4, 4 / 3)  # shares of the area, width by height: Tip-Adapter's, in its public code
TRIES = 10


class Views(NamedTuple):
    """Which views of every image there are: numbers 0 to `count` - 1."""

    count: int
    seed: int = 0


class ViewedImages(Sequence):
    """One view of every image, as pictures of `size` (height, width), which need no resizing or cropping any more.

    Args:
        resample: one of PIL.Image.Resampling.
        view: the number of this one."""

    def __init__(self, images: Sequence, size: tuple[int, int], resample: int, seed: int, view: int):
        self.images, self.size, self.resample, self.seed, self.view = images, size, resample, seed, view

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> Image.Image:
        row = range(len(self))[row]  # counts from the end too, and ends a loop
        return view_of(as_picture(self.images[row]), self.size, self.resample, (self.seed, self.view, row))


class EveryView(Sequence):
    """All views of all images, view by view: V * n pictures. Arguments as of `ViewedImages`."""

    def __init__(self, images: Sequence, size: tuple[int, int], resample: int, views: Views):
        self.views = [ViewedImages(images, size, resample, views.seed, view) for view in range(views.count)]

    def __len__(self) -> int:
        return sum(map(len, self.views))

    def __getitem__(self, place: int) -> Image.Image:
        view, row = divmod(range(len(self))[place], len(self.views[0]))
        return self.views[view][row]


def view_pixels(
    image: Image.Image | np.ndarray, row: int, views: Views, size: tuple[int, int], resample: int
) -> np.ndarray:
    """Every view of image number `row`, which is decoded once: [V, H, W, 3] uint8."""
    picture = as_picture(image)
    drawn = [view_of(picture, size, resample, (views.seed, view, row)) for view in range(views.count)]
    return np.stack([np.asarray(view) for view in drawn])


def as_picture(image: Image.Image | np.ndarray) -> Image.Image:
    return opaque(image if isinstance(image, Image.Image) else Image.fromarray(image))


def view_of(picture: Image.Image, size: tuple[int, int], resample: int, seeds: tuple[int, int, int]) -> Image.Image:
    """The view of `picture` that `seeds` (seed, view number, row number) stand for, of `size` (height, width)."""
    rng = np.random.default_rng(seeds)
    view = picture.crop(crop_box(rng, *picture.size)).resize(size[::-1], resample)
    return view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else view


def crop_box(rng: np.random.Generator, width: int, height: int) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of a random part of a picture; its share of the area is drawn evenly from SCALE, the
    logarithm of its width by height from RATIO's.

    A picture too long for any such part, as ten draws show, gives its middle, as near to RATIO as it can come."""
    for _ in range(TRIES):
        area = width * height * rng.uniform(*SCALE)
        ratio = math.exp(rng.uniform(*map(math.log, RATIO)))
        across, down = max(1, round(math.sqrt(area * ratio))), max(1, round(math.sqrt(area / ratio)))
        if across <= width and down <= height:
            left, top = rng.integers(width - across + 1), rng.integers(height - down + 1)
            return int(left), int(top), int(left) + across, int(top) + down
    across, down = min(width, round(height * RATIO[1])), min(height, round(width / RATIO[0]))
    across, down = max(1, across), max(1, down)
    left, top = (width - across) // 2, (height - down) // 2
    return left, top, left + across, top + down
