"""What is known of each image of the server's set: its file, its pixels, and what it was drawn from.

Axis letter: n images.
"""

import concurrent.futures
from collections.abc import Sequence
from typing import NamedTuple

from cachefl_jax.data.file_bytes import pixel_digests
from cachefl_jax.data.images import LabelledImages, file_of
from cachefl_jax.machine import cores
from cachefl_jax.synthesis.picture_files import facts_in
from cachefl_jax.synthesis.pixel_records import recorded


class Origin(NamedTuple):
    """Where one image came from. Two images of the same pixels are the same image, whatever file they lie in."""

    name: str  # its file, or "image 12"
    pixels: str  # sha256, in hex, of the picture as RGB
    prompt: str = ""  # "" where the file says nothing
    seed: int | None = None
    model: str = ""  # the pipeline


def origins(images: LabelledImages, pixels: Sequence[str] | None = None) -> list[Origin]:
    """The origins of n images, in their order. Prompt, seed and model are read from the metadata of files.

    `pixels`: [n], as of `kept_pixels`; where they are not given the images are decoded.

    Raises UsageError: an image cannot be decoded; it is named."""
    rows = range(len(images.labels))
    digests = pixel_digests(images, rows).tolist() if pixels is None else pixels
    with concurrent.futures.ThreadPoolExecutor(cores()) as pool:
        return list(pool.map(lambda row: origin_of(images.images, row, digests[row]), rows))


def kept_pixels(images: LabelledImages) -> list[str]:
    """The sha256, in hex, of the pixels of n images. A set is decoded for this once: the store keeps them.

    Raises UsageError: as `origins`, or the store cannot be written."""
    rows = range(len(images.labels))
    return recorded(images, "digests of pixels", lambda: {"pixels": pixel_digests(images, rows)})["pixels"].tolist()


def origin_of(images, row: int, pixels: str) -> Origin:
    """The origin of one image of a sequence, whose pixels have this digest."""
    facts = facts_in(file) if (file := file_of(images, row)) else {}
    name = getattr(images, "name", "image {}".format)(row)
    seed = facts.get("seed")
    seed = seed if isinstance(seed, int) and not isinstance(seed, bool) else None
    return Origin(name, pixels, text_in(facts, "prompt"), seed, text_in(facts, "model"))


def text_in(facts: dict, name: str) -> str:
    return facts[name] if isinstance(facts.get(name), str) else ""
