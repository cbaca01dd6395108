"""What an image source gives: three splits, the classes' names, and how to speak of them."""

from typing import NamedTuple

import numpy as np


class LabelledImages(NamedTuple):
    """Images of one size and their labels."""

    images: np.ndarray  # [n, H, W] or [n, H, W, 3] uint8
    labels: np.ndarray  # [n] int32


class ImageSet(NamedTuple):
    """A data set of images."""

    train: LabelledImages
    validation: LabelledImages
    test: LabelledImages
    class_names: tuple[str, ...]
    templates: tuple[str, ...]  # prompts with one {} for the class name
