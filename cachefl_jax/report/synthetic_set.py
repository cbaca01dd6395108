"""set.html: the server's images class by class, on which a person marks what is wrong and saves it as a review.json.

The page is whole by itself: small images, scores and prompts lie in it as data, which its one script shows as text. The
page's policy names that script by its digest, so that no other can run, whatever a prompt or a file's name says.

A set of more than `PER_PAGE` images is divided into pages, set.html, set-2.html and so on, that link to each other.

Axis letters: n images, N classes, K keys a class.
"""

import base64
import concurrent.futures
import hashlib
import io
import math
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from PIL import Image

from cachefl_jax.data.file_bytes import in_colour
from cachefl_jax.data.images import LabelledImages
from cachefl_jax.machine import cores
from cachefl_jax.report import page
from cachefl_jax.synthesis.origins import Origin
from cachefl_jax.synthesis.scores import Table

PER_PAGE = 2000  # images; of 128 pixels they take some 10 MB
SIDE = 128  # pixels that the longer side of an image takes at most
SCRIPT = ("set.js", "set_shown.js", "set_marked.js", "set_saved.js")  # one script, in this order
LOSSLESS = 64  # pixels up to which an image is shown as it is


class View(NamedTuple):
    """What the page shows."""

    title: str
    fingerprint: str  # of the set, which the review names
    class_names: Sequence[str]  # [N]
    images: LabelledImages  # [n]
    origins: Sequence[Origin]  # [n]
    scores: Table | None = None  # None where the set was not scored
    members: Sequence[Sequence[np.ndarray]] | None = None  # [N][K] rows that each key is made of; None: not selected
    reviews: Sequence[str] = ()  # what earlier reviews left out, a sentence each


def write_page(path: pathlib.Path, view: View) -> list[pathlib.Path]:
    """Writes the page to `path`, and further ones beside it where the set is large; returns them all. Further pages of
    a larger set that was there before are removed.

    Raises UsageError: an image cannot be decoded."""
    groups = pages_of(np.asarray(view.images.labels))
    paths = [path, *(path.with_name(f"{path.stem}-{number}{path.suffix}") for number in range(2, len(groups) + 1))]
    links = [
        (place.name, view.class_names[labels[0]], view.class_names[labels[-1]])
        for place, labels in zip(paths, (view.images.labels[rows] for rows in groups), strict=True)
    ]
    for number, (place, rows) in enumerate(zip(paths, groups, strict=True)):
        page.write_page(place, render(view, rows, links, number))
    number = len(paths) + 1
    while (older := path.with_name(f"{path.stem}-{number}{path.suffix}")).exists():
        older.unlink()
        number += 1
    return paths


def pages_of(labels: np.ndarray, most: int = 0) -> list[np.ndarray]:
    """The rows of each page, class after class. A class is divided only where it has more images than a page.

    Args:
        labels: [n].
        most: images a page; 0 = `PER_PAGE`."""
    most, pages, current = most or PER_PAGE, [], []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label).tolist()
        if current and len(current) + len(rows) > most:
            pages.append(current)
            current = []
        current += rows
        while len(current) > most:
            pages.append(current[:most])
            current = current[most:]
    return [np.array(rows) for rows in (*pages, current)]


def render(view: View, rows: np.ndarray, links: Sequence[tuple[str, str, str]], number: int) -> str:
    """One page as HTML.

    Args:
        view: the set.
        rows: of this page.
        links: (file, first class, last class) of every page.
        number: of this page among them, from 0."""
    script = "\n".join(pathlib.Path(__file__).with_name(file).read_text("utf-8") for file in SCRIPT)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    data = {
        "set": view.fingerprint,
        "total": len({origin.pixels for origin in view.origins}),
        "classes": list(view.class_names),
        "images": entries(view, rows),
        "scored": view.scores is not None,
    }
    return page.fill(
        "set", name=view.title, title=view.title, count=len(view.images.labels), classes=len(view.class_names),
        links=links, number=number, shown=len(rows), selected=view.members is not None, scored=view.scores is not None,
        reviews=view.reviews, data=data, script=Markup(script), policy=Markup(f"; script-src 'sha256-{digest}'"),
    )  # fmt: skip


def entries(view: View, rows: np.ndarray) -> list[dict[str, Any]]:
    """What the page's script is told of each image."""
    keys, repeated = keys_of(view), repeated_groups(view)
    with concurrent.futures.ThreadPoolExecutor(cores()) as pool:
        thumbnails = pool.map(lambda row: thumbnail(view.images.images[row]), rows.tolist())
        return [entry(view, row, image) | {"keys": keys.get(row, []), "twin": repeated.get(row)}
                for row, image in zip(rows.tolist(), thumbnails, strict=True)]  # fmt: skip


def entry(view: View, row: int, image: str) -> dict[str, Any]:
    """What is known of an image by itself; `image` is its data URI."""
    origin, scores = view.origins[row], view.scores
    real = view.images.real is not None and bool(view.images.real[row])
    told = {
        "image": image,
        "pixels": origin.pixels,
        "label": int(view.images.labels[row]),
        "name": short(origin.name),
        "prompt": origin.prompt,
        "seed": None if origin.seed is None else str(origin.seed),  # which may be beyond a script's whole numbers
        "real": real,
    }
    if scores is not None:
        told |= {name: figure(getattr(scores, name)[row]) for name in ("margin", "sharpness")}
        told["runner_up"] = view.class_names[int(scores.runner_up[row])]
        told["constant"] = bool(scores.constant[row])
    return told


def short(name: str) -> str:
    """The end of a file's path, which tells images apart; a page that is passed on need not tell whose home it was."""
    return "/".join(pathlib.PurePath(name).parts[-3:])


def figure(value: float) -> float | None:
    """A score in four digits; None for what is no number."""
    return float(f"{value:.4g}") if math.isfinite(value) else None


def keys_of(view: View) -> dict[int, list[int]]:
    """The keys of its class that each image is part of, by its row; as `cachefl predict` counts them, from 0."""
    found: dict[int, list[int]] = {}
    for groups in view.members or ():
        for key, rows in enumerate(groups):
            for row in np.asarray(rows).tolist():
                found.setdefault(row, []).append(key)
    return found


def repeated_groups(view: View) -> dict[int, int]:
    """How many near-duplicates an image has in the set, by the rows of those that have any."""
    if view.scores is None:
        return {}
    _, places, counts = np.unique(view.scores.duplicates, return_inverse=True, return_counts=True)
    found = counts[places] - 1
    return {row: int(found[row]) for row in np.flatnonzero(found).tolist()}


def thumbnail(image: Image.Image | np.ndarray) -> str:
    """An image of at most `SIDE` pixels as the data URI of a WebP."""
    picture = Image.fromarray(in_colour(image))
    lossless = max(picture.size) <= LOSSLESS
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, "WEBP", lossless=lossless, quality=80)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
