"""Images of the server's set that are blurred, or near-duplicates of others, leave it before anything is encoded.

Axis letters: n images, N classes.
"""

import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.config import lookup
from cachefl_jax.data.images import LabelledImages, select
from cachefl_jax.errors import UsageError, listing
from cachefl_jax.synthesis.scores import BLURRED, dropped


def without_dropped(
    images: LabelledImages, class_names: tuple[str, ...], config: ConfigDict
) -> tuple[LabelledImages, list[str]]:
    """(the server's images without those that synthesis.least_sharpness and synthesis.duplicates leave out, a note of
    how many these are).

    Raises UsageError: too few images of a class are left."""
    synthesis, least = config.synthesis, config.cache.keys_per_class
    if synthesis.least_sharpness <= 0 and synthesis.duplicates != "drop":
        return images, []
    found = dropped(images, synthesis.least_sharpness, synthesis.duplicates)
    if not found:
        return images, []
    counts = {reason: np.bincount(images.labels[rows], minlength=len(class_names)) for reason, rows in found.items()}
    left = np.bincount(images.labels, minlength=len(class_names)) - sum(counts.values())
    if left.min() < least:
        poorest = int(left.argmin())
        reason = max(counts, key=lambda reason: counts[reason][poorest])
        field = "synthesis.least_sharpness" if reason == BLURRED else "synthesis.duplicates"
        value = f"{lookup(config, field)} (which leaves {left[poorest]} images of {class_names[poorest]})"
        allowed = f"what leaves {least} or more of every class, as many as cache.keys_per_class"
        raise UsageError(field, value, allowed, "leave fewer out, bring more images, or lower cache.keys_per_class")
    told = [
        f"{count.sum()} {reason} ({listing(f'{class_names[each]} {count[each]}' for each in np.flatnonzero(count))})"
        for reason, count in counts.items()
    ]
    rows = np.setdiff1d(np.arange(len(images.labels)), np.concatenate([*found.values()]))
    return select(images, rows), [f"Left out of the server's images: {'; '.join(told)}."]
