"""Real handwriting that needs no network: scikit-learn's 1,797 digits, 8x8 grey, which ship inside the package.

Source: Alpaydin & Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998; scikit-learn holds its test part.
"""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from cachefl_jax.data.images import ImageSet, LabelledImages, fingerprint_of

CLASS_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEMPLATES = ("a photo of the digit {}.", "a picture of the digit {}.", "an image of the digit {}.", "the digit {}.")
SPLIT_SEED = 0  # part of the data set, not of a run: all runs share one test set


def load() -> ImageSet:
    """The digits as images [n, 8, 8] uint8, split once, stratified: 60% train, 15% validation, 25% test."""
    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)
    labels = digits.target.astype(np.int32)
    rest, test = train_test_split(np.arange(len(labels)), test_size=0.25, stratify=labels, random_state=SPLIT_SEED)
    train, validation = train_test_split(rest, test_size=0.2, stratify=labels[rest], random_state=SPLIT_SEED)
    splits = [labelled(images[rows], labels[rows]) for rows in map(np.sort, (train, validation, test))]
    return ImageSet(*splits, CLASS_NAMES, TEMPLATES)


def labelled(images: np.ndarray, labels: np.ndarray) -> LabelledImages:
    return LabelledImages(images, labels, fingerprint_of(images, labels))
