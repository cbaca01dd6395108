"""Who made each image of the server's set, with what and when: provenance.jsonl, a line an image, and its costs.

Nothing is guessed. What nobody told is null: images that were brought along say of themselves what their files'
metadata say, and images that are real are told to be real.
"""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cachefl_jax.storage.files import file_digest
from cachefl_jax.synthesis.cost import spent
from cachefl_jax.synthesis.licence import Terms
from cachefl_jax.synthesis.origins import Origin

DRAWN, BROUGHT, REAL = "drawn", "brought", "real"  # how an image came into the set


class Facts(NamedTuple):
    """What is known of a set."""

    source: str  # synthesis.source
    manifest: Mapping[str, Any]  # of a set that was drawn; else what `server_set.load_all` tells
    terms: Terms | None  # of the generator; None where none was asked
    pipeline: str  # its name
    class_names: tuple[str, ...]  # [N]
    price_gpu_hour: float = 0.0  # 0 = not told


class Candidate(NamedTuple):
    """One image of the set, as a page and a record tell it."""

    label: int
    origin: Origin
    file: pathlib.Path | None  # None where it is no file
    real: bool
    key: tuple[int, ...]  # the keys of its class that it is part of; () = of none
    place: str  # where it lies in a copy of the set, such as images/cat/000012.png


def kind_of(facts: Facts, candidate: Candidate) -> str:
    """How an image came into the set."""
    return REAL if candidate.real else DRAWN if "weights_sha256" in facts.manifest else BROUGHT


def line(facts: Facts, candidate: Candidate) -> dict[str, Any]:
    """The record of one image."""
    origin = candidate.origin
    how = kind_of(facts, candidate)
    told = {
        "file": candidate.place,
        "class": facts.class_names[candidate.label],
        "how": how,
        "sha256": file_digest(candidate.file) if candidate.file else None,
        "pixels_sha256": origin.pixels,
        "keys": list(candidate.key),
        "prompt": origin.prompt or None,
        "seed": origin.seed,
        "model": origin.model or None,
    }
    return told | (drawn_by(facts) if how == DRAWN else {})


def drawn_by(facts: Facts) -> dict[str, Any]:
    """What all images of one drawing share."""
    manifest, terms = facts.manifest, facts.terms or Terms(None, None, None)
    shared = ("weights_sha256", "scheduler", "steps", "guidance", "dtype", "device", "versions", "date")
    return {
        "model": facts.pipeline,
        "revision": terms.revision,
        "licence": terms.licence,
        "licence_link": terms.link,
        **{name: manifest.get(name) for name in shared},
    }


def as_jsonl(facts: Facts, candidates: Sequence[Candidate]) -> bytes:
    """provenance.jsonl."""
    return "".join(json.dumps(line(facts, each), ensure_ascii=False) + "\n" for each in candidates).encode()


def drawn_images(manifest: Mapping[str, Any]) -> int:
    """How many images were drawn, those that were marked wrong since among them, real ones not; 0 where nobody drew."""
    return sum(map(len, manifest.get("seeds") or ()))


def costs(facts: Facts) -> dict[str, Any]:
    """Images drawn, and seconds, energy in joules and price of that; None where it was not measured or not told."""
    manifest, images = facts.manifest, drawn_images(facts.manifest)
    found = spent(manifest, images, facts.price_gpu_hour)
    if found is None:
        return {"images": images, "seconds": None, "seconds_an_image": None, "energy_joules": None, "price": None}
    return {
        "images": images,
        "seconds": round(found.seconds, 2),
        "seconds_an_image": round(found.seconds_an_image, 4),
        "energy_joules": manifest.get("energy_joules"),
        "price": found.price,
    }


def counts(facts: Facts, candidates: Sequence[Candidate]) -> dict[str, int]:
    """Images of each class, by its name."""
    numbers = np.bincount([each.label for each in candidates], minlength=len(facts.class_names))
    return dict(zip(facts.class_names, numbers.tolist(), strict=True))


def drawn_words(manifest: Mapping[str, Any]) -> str:
    """What a drawing came to, with the digests that name it."""
    told = f"{sum(map(len, manifest['seeds']))} images, digest {manifest['digest']}, sha256 {manifest['images_sha256']}"
    if manifest.get("redrawn"):
        told += f"\n{manifest['redrawn']} of them from further seeds: the pipeline refused the first"
    return told
