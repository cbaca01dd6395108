"""What is known of each image of the server's set: its file, its pixels, and what it was drawn from.

Axis letter: n images.
"""

import concurrent.futures
from typing import NamedTuple

from tqdm import tqdm

from cachefl_jax.data.file_bytes import in_colour
from cachefl_jax.data.images import LabelledImages, file_of, fingerprint_of
from cachefl_jax.machine import cores
from cachefl_jax.synthesis.picture_files import facts_in


class Origin(NamedTuple):
    """Where one image came from. Two images of the same pixels are the same image, whatever file they lie in."""

    name: str  # its file, or "image 12"
    pixels: str  # sha256, in hex, of the picture as RGB
    prompt: str = ""  # "" where the file says nothing
    seed: int | None = None
    model: str = ""  # the pipeline


def origins(images: LabelledImages) -> list[Origin]:
    """The origins of n images, in their order. Prompt, seed and model are read from the metadata of files.

    Raises UsageError: an image cannot be decoded; it is named."""
    count = len(images.labels)
    bar = tqdm(total=count, desc="hashing pixels", unit="image", leave=False, disable=None, delay=2)
    with bar, concurrent.futures.ThreadPoolExecutor(cores()) as pool:
        return [bar.update() or found for found in pool.map(lambda row: origin_of(images.images, row), range(count))]


def origin_of(images, row: int) -> Origin:
    """The origin of one image of a sequence."""
    facts = facts_in(file) if (file := file_of(images, row)) else {}
    name = getattr(images, "name", "image {}".format)(row)
    pixels = fingerprint_of(in_colour(images[row]))
    seed = facts.get("seed")
    seed = seed if isinstance(seed, int) and not isinstance(seed, bool) else None
    return Origin(name, pixels, text_in(facts, "prompt"), seed, text_in(facts, "model"))


def text_in(facts: dict, name: str) -> str:
    return facts[name] if isinstance(facts.get(name), str) else ""
