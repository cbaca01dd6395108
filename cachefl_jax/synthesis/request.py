"""What is to be drawn, and the digest by which the store knows it.

Axis letters: N classes, K images a class, n images.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cachefl_jax.synthesis.generator import Drawing
from cachefl_jax.synthesis.prompts import class_prompts, image_seeds

NOT_SEEN = ("batch_size", "file_format")  # of `Drawing`: what changes an image by rounding at most


class Request(NamedTuple):
    """What is to be drawn; equal requests of equal weights name the same set."""

    pipeline: str
    class_names: tuple[str, ...]  # [N]
    prompts: tuple[tuple[str, ...], ...]  # [N][K]
    seeds: tuple[tuple[int, ...], ...]  # [N][K]
    how: Drawing

    @property
    def labels(self) -> np.ndarray:
        """[n] int32, the class of every image, class by class."""
        return np.repeat(np.arange(len(self.prompts), dtype=np.int32), [len(row) for row in self.prompts])

    def as_facts(self) -> dict[str, Any]:
        """The request for a manifest, every field by its name."""
        fields = self._asdict()
        return {**{name: value for name, value in fields.items() if name != "how"}, **self.how._asdict()}


def request_of(
    pipeline: str,
    class_names: Sequence[str],
    templates: Sequence[str],
    images_per_class: int,
    how: Drawing,
    seed: int,
) -> Request:
    """The request that a config's synthesis fields and seed stand for. Raises UsageError: as `class_prompts`."""
    prompts = class_prompts(class_names, templates, images_per_class)
    seeds = image_seeds(class_names, images_per_class, seed)
    how = how._replace(steps=int(how.steps), guidance=float(how.guidance))
    return Request(pipeline, tuple(class_names), prompts, seeds, how)


def request_in(manifest: Mapping[str, Any]) -> Request:
    """The request that a manifest tells of. Raises KeyError, TypeError: it tells of none."""
    prompts, seeds = (tuple(tuple(row) for row in manifest[name]) for name in ("prompts", "seeds"))
    how = Drawing(**{name: manifest[name] for name in Drawing._fields})
    return Request(manifest["pipeline"], tuple(manifest["class_names"]), prompts, seeds, how)


def request_digest(request: Request, weights: str) -> str:
    """Names a set by what determines its images: the weights stand for the pipeline, wherever it lies.

    How many images are drawn at once is no part of it, as of features: it changes an image by rounding alone, and a
    set must not be drawn again because another machine takes fewer at once. Nor is the kind of file."""
    fields = {name: value for name, value in request.as_facts().items() if name not in NOT_SEEN}
    return hashlib.sha256(json.dumps({**fields, "pipeline": weights}, sort_keys=True).encode()).hexdigest()
