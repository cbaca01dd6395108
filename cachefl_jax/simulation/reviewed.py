"""Images of the server's set that a person marked wrong leave it before anything is encoded.

Axis letters: n images, N classes.
"""

import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.data.images import LabelledImages, select
from cachefl_jax.errors import UsageError
from cachefl_jax.synthesis.origins import kept_pixels
from cachefl_jax.synthesis.review import Review, marked, read_review


def reviews_of(config: ConfigDict) -> list[Review]:
    """The reviews that a config names. Raises UsageError: as `read_review`."""
    return [read_review(path) for path in config.synthesis.review]


def without_marked(
    images: LabelledImages, class_names: tuple[str, ...], config: ConfigDict
) -> tuple[LabelledImages, tuple[str, ...]]:
    """(n images without those that `synthesis.review` marks wrong, a note of how many went by whom).

    Raises UsageError: a review cannot be read or is another set's, or a class is left with too few images."""
    reviews = reviews_of(config)
    if not reviews:
        return images, ()
    pixels = kept_pixels(images)
    wrong = marked(pixels, reviews)
    check_left(images.labels, wrong, class_names, config)
    notes = tuple(note_of(review, set(pixels)) for review in reviews)
    return (select(images, np.flatnonzero(~wrong)) if wrong.any() else images), notes


def note_of(review: Review, pixels: set[str]) -> str:
    """What a review said of the set whose images have these digests."""
    wrong, seen = len(pixels & review.wrong.keys()), len(pixels & review.seen)
    told = f"synthesis.review: {review.reviewer} saw {seen} of the server's {len(pixels)} different images and marked "
    told += f"{wrong} wrong, which become no keys ({review.path})."
    if others := len(review.wrong.keys() - pixels):
        told += f" {others} more marks are of images that are not among these."
    return told


def check_left(labels: np.ndarray, wrong: np.ndarray, class_names: tuple[str, ...], config: ConfigDict) -> None:
    """Refuses classes that are left with fewer images than they are to have keys."""
    synthesis = config.synthesis
    least = config.cache.keys_per_class - (synthesis.real_images if synthesis.source != "held_out" else 0)
    counts = np.bincount(labels[~wrong], minlength=len(class_names))
    poorest = int(counts.argmin())
    if counts[poorest] < max(least, 1) and wrong[labels == poorest].any():
        found = (
            f"{counts[poorest]} images of {class_names[poorest]} left, {wrong[labels == poorest].sum()} marked wrong"
        )
        allowed = f"{max(least, 1)} or more of every class, by cache.keys_per_class"
        raise UsageError("synthesis.review", found, allowed, "raise synthesis.images_per_class, or lower these keys")
