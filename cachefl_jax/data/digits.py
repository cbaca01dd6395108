"""Real handwriting that needs no network: scikit-learn's 1,797 digits, 8x8 grey, which ship inside the package.

Source: Alpaydin & Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998; scikit-learn holds its test part. Its
file is read where it lies: importing the package takes longer than all else that the demo reads.
"""

import gzip
import importlib.util
import pathlib

import numpy as np

from cachefl_jax.data.images import ImageSet, LabelledImages, fingerprint_of

CLASS_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEMPLATES = ("a photo of the digit {}.", "a picture of the digit {}.", "an image of the digit {}.", "the digit {}.")
SPLIT = pathlib.Path(__file__).with_name("digits_split.txt")  # of each image, in order: one of SPLITS
SPLITS = "rvt"  # train, validation, test; part of the data set, not of a run: all runs share one test set


def load() -> ImageSet:
    """The digits as images [n, 8, 8] uint8, split once, stratified: 60% train, 15% validation, 25% test."""
    (package,) = importlib.util.find_spec("sklearn").submodule_search_locations
    with gzip.open(pathlib.Path(package, "datasets", "data", "digits.csv.gz")) as file:
        table = np.loadtxt(file, delimiter=",")  # 64 numbers of 0 to 16, and what they show
    images = np.round(table[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    labels, split = table[:, -1].astype(np.int32), np.array(list("".join(SPLIT.read_text().split())))
    splits = [labelled(images[split == name], labels[split == name]) for name in SPLITS]
    return ImageSet(*splits, CLASS_NAMES, TEMPLATES)


def labelled(images: np.ndarray, labels: np.ndarray) -> LabelledImages:
    return LabelledImages(images, labels, fingerprint_of(images, labels))
