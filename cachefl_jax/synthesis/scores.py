"""Each candidate's scores, and which candidates become no keys whatever the rule of selection.

Axis letters: n images, N classes, D features.
"""

import concurrent.futures
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from cachefl_jax.data.duplicates import duplicate_groups
from cachefl_jax.data.images import LabelledImages, is_blank
from cachefl_jax.machine import cores
from cachefl_jax.synthesis.pixel_records import recorded
from cachefl_jax.synthesis.rules import margins_of
from cachefl_jax.synthesis.selection import Set, classes_of

BLURRED, DUPLICATES = "blurred", "near-duplicates of others of their class"  # why images become no keys


class Table(NamedTuple):
    """A line an image, [n] each."""

    agreement: np.ndarray  # cosine to the own class's text
    margin: np.ndarray  # agreement less the best cosine to another class's text
    runner_up: np.ndarray  # that other class
    sharpness: np.ndarray  # variance of the Laplacian of grey levels, 0 to 255, of the image in its own size
    constant: np.ndarray  # bool: of one colour
    duplicates: np.ndarray  # a number that near-duplicates share, of whatever class
    nearest: np.ndarray  # distance (1 - cosine) to the nearest other image of the class; NaN where it is the only one


def scores(images: LabelledImages, candidates: Set) -> Table:
    """The scores of images [n] with their features, where there are text features.

    Raises UsageError: an image cannot be decoded, or the store cannot be written."""
    found = Table(*(np.zeros(len(images.labels)) for _ in Table._fields))._replace(
        runner_up=np.zeros(len(images.labels), np.int64), duplicates=groups_of(images), **sharpness_of(images)
    )
    for label in range(classes_of(candidates)):
        rows = np.flatnonzero(candidates.labels == label)
        features = np.asarray(candidates.features[rows], np.float64)
        found.agreement[rows], found.margin[rows], found.runner_up[rows] = margins_of(features, label, candidates.text)
        cosines = features @ features.T
        np.fill_diagonal(cosines, np.nan if len(rows) == 1 else -np.inf)
        found.nearest[rows] = 1 - cosines.max(axis=1, initial=-np.inf)
    return found


def dropped(images: LabelledImages, least_sharpness: float, duplicates: str) -> dict[str, np.ndarray]:
    """By reason, the rows of the images that become no keys; real images stay.

    Args:
        least_sharpness: less is blurred; 0 asks for nothing.
        duplicates: "drop": of a class's near-duplicates that are not blurred only the first stays, or none beside a
            real image; "keep".

    Raises UsageError: as `scores`."""
    real = np.zeros(len(images.labels), bool) if images.real is None else images.real
    left, found = np.ones(len(images.labels), bool), {}
    if least_sharpness > 0:
        blurred = ~real & (sharpness_of(images)["sharpness"] < least_sharpness)
        found[BLURRED] = np.flatnonzero(blurred)
        left &= ~blurred
    if duplicates == "drop":
        rows = np.flatnonzero(left)
        rows = rows[np.argsort(~real[rows], kind="stable")]  # real ones first
        pairs = np.stack([images.labels, groups_of(images)], 1)[rows]
        first = rows[np.unique(pairs, axis=0, return_index=True)[1]]
        again = left & ~real
        again[first] = False
        found[DUPLICATES] = np.flatnonzero(again)
    return {reason: rows for reason, rows in found.items() if len(rows)}


def groups_of(images: LabelledImages) -> np.ndarray:
    """The group of near-duplicates [n] of each image."""
    return recorded(images, "near-duplicates", lambda: {"groups": duplicate_groups([images])})["groups"]


def sharpness_of(images: LabelledImages) -> dict[str, np.ndarray]:
    """{"sharpness": [n], "constant": [n] bool}."""

    def compute() -> dict[str, np.ndarray]:
        count = len(images.labels)
        bar = tqdm(total=count, desc="sharpness", unit="image", leave=False, disable=None, delay=2)
        with bar, concurrent.futures.ThreadPoolExecutor(cores()) as pool:
            every = pool.map(lambda row: sharpness_and_constant(images.images[row]), range(count))
            found = [bar.update() or each for each in every]
        sharpness, constant = zip(*found, strict=True)
        return {"sharpness": np.array(sharpness), "constant": np.array(constant)}

    return recorded(images, "sharpness", compute)


def sharpness_and_constant(image: Image.Image | np.ndarray) -> tuple[float, bool]:
    """(the variance of the Laplacian of an image's grey levels, whether it is of one colour)."""
    from scipy import ndimage  # slow to import

    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    grey = np.asarray(picture.convert("L"), np.float64)
    return float(ndimage.laplace(grey, mode="mirror").var()), is_blank(image)
