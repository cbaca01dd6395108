"""The words of the page, a sentence each."""

from collections.abc import Mapping
from typing import Any

ROWS = {
    "zero_shot": "the encoder as it came, asked by the classes' names alone; no image teaches it anything.",
    "cache_init": "the cache of the server's images as it is before any site has trained.",
    "local_only": "every site trains a model on its own images alone, and each test image is judged by its own site's.",
    "cachefl": "the sites tune the keys of one cache on their images; the server averages them, round by round.",
    "linear_probe": "one vector of weights a class over the encoder's features, trained at the sites and averaged.",
    "class_directions": "this package's own method: the sites send counts and sums of features once, of which the "
    "server makes one direction a class.",
    "ridge": "a linear classifier that the server solves in one round from sums of products of the sites' features.",
    "gda": "Gaussian discriminant analysis: class means and one covariance, from sums that the sites send once.",
    "features_once": "every site sends the feature and label of each of its training images; the server trains.",
    "centralized": "all training images in one place: what could be had if they were allowed to leave the sites.",
}
WORDS = {
    "cache, keys": "features of images of known classes; an image is taken for the class whose keys are near to it.",
    "cache.alpha, cache.beta": "how much the cache counts beside zero-shot, and how sharply near keys count more.",
    "round": "the server sends the model to the sites, they train it, and it averages what they send back.",
    "recommended": "of the rows that send no image and no image's feature, the best on validation images.",
    "validation images": "images that no row trains on, by which settings and the recommended row are chosen.",
    "seed": "the number that starts everything drawn at random; other seeds show how much of a figure is luck.",
    "±": "half of the 95% interval, the widest of up to three: over seeds, over test images, and over both.",
    "p": "how often chance alone would make a difference as large; the largest of the same tests counts.",
    "Holm's rule": "of many comparisons some look like differences by chance, so the smallest p is multiplied by the "
    "number of comparisons, the next by one less, and so on; a verdict is by the adjusted p, at 5%.",
    "differential privacy, epsilon": "noise that bounds how much any one image can change what is sent; less is safer.",
    "secure sums": "the server learns the sum of what the sites send, and not what a single one sent.",
    "leak, |cos|": "how near the image features that an attack reads out of an update come to the true ones: 1 is the "
    "same direction, and what chance gives is told beside it.",
}


def glossary(decision: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(word, meaning): the rows that there are, as they are called, and the page's own words."""
    rows = [(row["label"], ROWS[name]) for name, row in decision["rows"].items() if name in ROWS]
    return [*rows, *WORDS.items()]
