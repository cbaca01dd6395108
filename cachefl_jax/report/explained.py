"""explain.html: predictions, each with the nearest keys of the cache and the images that these keys started from.

Axis letter: n images.
"""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from cachefl_jax.data.images import LabelledImages
from cachefl_jax.report import page
from cachefl_jax.report.synthetic_set import short, thumbnail
from cachefl_jax.synthesis.origins import Origin

MOST_OF_KEY = 4  # images that are shown of a key that is the mean of more


class Key(NamedTuple):
    """A key of the cache, and where it came from."""

    class_name: str
    number: int  # within the class, from 0
    start: float  # the tuned key's cosine to what it was at round 0
    rows: tuple[int, ...]  # of the server's images that it was made of
    origins: tuple[Origin, ...]  # of these


class Near(NamedTuple):
    """A key that is near to an image."""

    key: Key
    similarity: float  # the cosine of the two


class Explained(NamedTuple):
    """The prediction of one image."""

    name: str  # its file
    predicted: str
    probability: float
    nearest: tuple[Near, ...]  # the most similar first


class Page(NamedTuple):
    """What the page shows."""

    run: str
    method: str
    images: Sequence  # [n] that are explained, decoded when asked for
    explained: Sequence[Explained]  # [n]
    server: LabelledImages


def write_page(path: pathlib.Path, view: Page) -> None:
    """Writes the page. Raises UsageError: an image cannot be decoded, or the page cannot be written."""
    shown = {near.key: images_of_key(view.server, near.key) for told in view.explained for near in told.nearest}
    entries = [
        {
            "image": thumbnail(view.images[row]),
            "told": told,
            "nearest": [(near, shown[near.key], len(near.key.rows) - len(shown[near.key])) for near in told.nearest],
        }
        for row, told in enumerate(view.explained)
    ]
    real = view.server.real is not None and bool(view.server.real.any())
    page.write_page(path, page.fill("explain", name=view.run, method=view.method, entries=entries, real=real))


def images_of_key(server: LabelledImages, key: Key) -> list[tuple[str, Origin]]:
    """(data URI, origin) of the first images of a key."""
    pairs = list(zip(key.rows, key.origins, strict=True))[:MOST_OF_KEY]
    return [(thumbnail(server.images[row]), origin._replace(name=short(origin.name))) for row, origin in pairs]
