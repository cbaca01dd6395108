"""Faults that synthetic images may have, made of sound ones in several strengths.

Axis letters: N classes, K images a class, H W image.
"""

from collections.abc import Callable

import numpy as np
from scipy import ndimage

Fault = Callable[[np.ndarray, np.random.Generator], np.ndarray]  # images [N, K, H, W, 3], random numbers -> images


def half_of_each(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    half = first.shape[1] // 2
    return np.concatenate([first[:, :half], second[:, half:]], axis=1)


def wrong(share: float) -> Fault:
    """A share of each class's images are of other classes, in turn."""

    def change(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        classes, count = images.shape[:2]
        changed = images.copy()
        for slot in rng.choice(count, round(share * count), replace=False):
            changed[:, slot] = np.roll(images[:, slot], rng.integers(1, classes), axis=0)
        return changed

    return change


def exchanged(pairs: int) -> Fault:
    """Each of the first classes stands for its neighbour."""
    order = np.arange(2 * pairs).reshape(-1, 2)[:, ::-1].ravel()
    return lambda images, _: np.concatenate([images[order], images[len(order) :]])


def pixels(change: Callable[[np.ndarray, np.random.Generator], np.ndarray]) -> Fault:
    """A change of pixels as float, back in whole numbers of 0 to 255."""
    return lambda images, rng: np.clip(np.rint(change(images.astype(np.float32), rng)), 0, 255).astype(np.uint8)


FAULTS: dict[str, dict[str, Fault]] = {
    "wrong labels": {f"{share:.0%} wrong": wrong(share) for share in (0.1, 0.3, 0.5, 0.7)},
    "classes exchanged": {f"{2 * pairs} exchanged": exchanged(pairs) for pairs in (1, 2, 5)},
    "few distinct": {
        f"{count} distinct": lambda images, _, count=count: images[:, np.arange(images.shape[1]) % count]
        for count in (1, 2, 4, 8)
    },
    "blurred": {
        f"blur {width}": pixels(lambda x, _, width=width: ndimage.gaussian_filter(x, (0, 0, width, width, 0)))
        for width in (1, 2, 4)
    },
    "noisy": {
        f"noise {size}": pixels(lambda x, rng, size=size: x + rng.normal(0, size, x.shape)) for size in (20, 60, 120)
    },
    "pale": {f"contrast {part}": pixels(lambda x, _, part=part: 128 + part * (x - 128)) for part in (0.3, 0.1)},
}  # fmt: skip
