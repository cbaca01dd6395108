"""Near-duplicate images: copies of one picture that were compressed, resized, brightened or made grey again.

Two images are near-duplicates where their perceptual hashes (64 signs of low frequencies, package imagehash) differ in
at most `MOST_BITS` and their grey thumbnails correlate by at least `LEAST_CORRELATION`. Measured on 4,500 images of
CIFAR-10: of 10 million pairs three agree so, and all three show one picture; of 26 pairs that differ in 6 to 10 bits
two do, and are missed. Of 300 of these images all are found again after JPEG at quality 50, and at half or twice the
size; 96 of 100 after a change of brightness by a fifth; 27 of 100 cropped by a pixel. Mirrored ones are not found.

A plain surface has no frequencies to hash: images with less than `LEAST_DETAIL` are the same where all pixels are.

Axis letter: n images.
"""

import concurrent.futures
from collections.abc import Iterable, Sequence

import imagehash
import numpy as np
import scipy.sparse
from PIL import Image
from scipy.sparse.csgraph import connected_components

from cachefl_jax.data.file_bytes import in_colour
from cachefl_jax.data.images import LabelledImages, fingerprint_of
from cachefl_jax.errors import UsageError
from cachefl_jax.machine import cores

BITS = 64  # of a hash
MOST_BITS, LEAST_CORRELATION = 4, 0.85
LEAST_DETAIL = 2.0  # the thumbnail's standard deviation, in grey levels of 256
SIDE = 32  # pixels of a thumbnail, and what the hash's cosines are taken of
BLOCK = 512  # images whose hashes are compared with all others at once


def duplicate_groups(splits: Iterable[LabelledImages]) -> np.ndarray:
    """The group [n] of each image, all splits after one another: equal for near-duplicates, and for what these are
    near-duplicates of in turn. An image that cannot be decoded is by itself: whoever decodes it next says why."""
    rows = [(split.images, row) for split in splits for row in range(len(split.labels))]
    with concurrent.futures.ThreadPoolExecutor(cores()) as pool:
        found = list(pool.map(thumbnail_or_none, rows))
    count = len(rows)
    detailed = np.array([row for row, each in enumerate(found) if isinstance(each, np.ndarray)], np.int64)
    first, second = near_pairs(np.array([found[row] for row in detailed], np.uint8).reshape(-1, SIDE, SIDE))
    digests = {}
    plain = [(row, digests.setdefault(each, row)) for row, each in enumerate(found) if isinstance(each, str)]
    ends = np.concatenate([np.stack([detailed[first], detailed[second]], 1), np.array(plain, int).reshape(-1, 2)])
    graph = scipy.sparse.coo_matrix((np.ones(len(ends), bool), ends.T), shape=(count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def thumbnail_or_none(place: tuple[Sequence, int]) -> np.ndarray | str | None:
    """An image's grey thumbnail, uint8 [SIDE, SIDE]; the digest of all its pixels where it shows next to nothing; None
    where it cannot be decoded."""
    images, row = place
    try:
        image = images[row]
    except UsageError:
        return None
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    small = np.asarray(picture.convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS))
    return small if small.std() >= LEAST_DETAIL else fingerprint_of(in_colour(image))


def near_pairs(thumbnails: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the first, the second) of every pair of near-duplicates among grey thumbnails uint8 [n, SIDE, SIDE]."""
    hashes = [imagehash.phash(Image.fromarray(each)).hash.ravel() for each in thumbnails]
    signs = np.where(np.array(hashes, bool).reshape(-1, BITS), 1, -1).astype(np.float32)
    least = BITS - 2 * MOST_BITS
    firsts, seconds = [np.arange(0)], [np.arange(0)]
    for start in range(0, len(signs), BLOCK):
        one, other = np.nonzero(signs[start : start + BLOCK] @ signs[start:].T >= least)
        one, other = one[one < other] + start, other[one < other] + start
        alike = correlations(thumbnails, one, other) >= LEAST_CORRELATION
        firsts.append(one[alike])
        seconds.append(other[alike])
    return np.concatenate(firsts), np.concatenate(seconds)


def correlations(thumbnails: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Pearson's correlation of the grey levels of each pair, [pairs]; a few pairs at a time."""
    found = np.empty(len(first))
    for start in range(0, len(first), BLOCK):
        part = slice(start, start + BLOCK)
        one, other = (thumbnails[rows[part]].reshape(-1, SIDE**2).astype(np.float64) for rows in (first, second))
        one, other = (each - each.mean(axis=1, keepdims=True) for each in (one, other))
        norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
        found[part] = (one * other).sum(axis=1) / norms
    return found
