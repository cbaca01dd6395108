"""What a person said of the server's images: review.json, which the set's page saves.

    {"set": "...", "reviewer": "...", "date": "...", "seen": [DIGEST, ...],
     "wrong": {DIGEST: {"class": "...", "why": "..."}, ...}}

A DIGEST is the sha256 of an image's pixels (`Origin.pixels`), so that a review holds for the image, whatever file it
lies in, and outlives a set that is drawn again with more images.

Axis letter: n images.
"""

import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cachefl_jax.errors import UsageError
from cachefl_jax.storage.checked_json import OBJECT, TEXT, Fields, Kind, check, list_of, parse

FIELD = "synthesis.review"
AGAIN = "save it again on the set's page (set.html)"
DIGEST = Kind(lambda value: isinstance(value, str) and bool(re.fullmatch("[0-9a-f]{64}", value)), "64 hex digits")
MARK = Fields({"class": TEXT, "why": TEXT}, {})
REVIEW = Fields({"set": TEXT, "reviewer": TEXT, "date": TEXT, "seen": list_of(DIGEST), "wrong": OBJECT}, {})


class Mark(NamedTuple):
    """Why an image is wrong."""

    class_name: str  # that it was drawn for
    why: str  # "" where the reviewer gave no reason


class Review(NamedTuple):
    """One file, read."""

    path: str
    of_set: str  # fingerprint of the set that the reviewer looked at
    reviewer: str
    date: str
    seen: frozenset[str]  # digests; those marked wrong are among them
    wrong: Mapping[str, Mark]  # by digest


class Agreement(NamedTuple):
    """How far two reviewers agree on the images that both have seen."""

    seen: int
    kappa: float | None  # Cohen's (1960); None where both say the same of every image, which leaves it undefined
    both_wrong: tuple[str, ...]  # digests, here and below
    first_alone: tuple[str, ...]  # wrong by the first reviewer alone
    second_alone: tuple[str, ...]


def read_review(path: str, field: str = FIELD) -> Review:
    """A review.json.

    Raises UsageError: `field` names a file that is not there, is no JSON, or no review."""
    found = fields_of(path, field)
    wrong = {digest: Mark(mark["class"], mark["why"]) for digest, mark in found["wrong"].items()}
    seen = frozenset(found["seen"]) | frozenset(wrong)
    return Review(path, found["set"], found["reviewer"].strip() or "an unnamed reviewer", found["date"], seen, wrong)


def fields_of(path: str, field: str) -> dict[str, Any]:
    """The fields of a review.json, each of its kind. Raises UsageError: as `read_review`."""
    try:
        content = pathlib.Path(path).read_bytes()
    except OSError as error:
        raise UsageError(field, f"{path} ({error.strerror})", "a review.json", "correct the path") from error
    try:
        found = check(parse(content, path), REVIEW, path)
        for digest, mark in found["wrong"].items():
            check({"digest": digest}, Fields({"digest": DIGEST}, {}), path, "wrong, ")
            check(mark, MARK, path, f"wrong.{digest[:12]}.")
        return found
    except UsageError as error:  # which takes it for a run's file
        value = f"{path} ({error.value})"
        allowed = error.allowed if "JSON that" not in error.allowed else "the JSON of a review"
        raise UsageError(field, value, allowed, AGAIN) from error


def marked(pixels: Sequence[str], reviews: Sequence[Review]) -> np.ndarray:
    """[n] bool, whether any review marks an image wrong; `pixels` are the digests [n] of the images.

    Raises UsageError: a review knows none of the images."""
    for review in reviews:
        if review.seen.isdisjoint(pixels):
            found = f"{review.path} (by {review.reviewer}, who has seen none of these {len(pixels)} images)"
            raise UsageError(FIELD, found, "a review of this set", "leave it out, or look at this set")
    wrong = frozenset().union(*(review.wrong for review in reviews))
    return np.array([digest in wrong for digest in pixels], bool)


def agreement(first: Review, second: Review) -> Agreement:
    """Cohen's kappa of two reviews over the images that both have seen, and where they differ.

    Raises UsageError: there is no such image."""
    both = sorted(first.seen & second.seen)
    if not both:
        found = f"{first.path} and {second.path} (no image that both have seen)"
        raise UsageError("agree", found, "two reviews of one set", "name two of the same set")
    one, other = (np.array([digest in review.wrong for digest in both]) for review in (first, second))

    def digests(rows: np.ndarray) -> tuple[str, ...]:
        return tuple(both[row] for row in np.flatnonzero(rows))

    return Agreement(
        len(both), kappa_of(one, other), digests(one & other), digests(one & ~other), digests(other & ~one)
    )


def kappa_of(one: np.ndarray, other: np.ndarray) -> float | None:
    """Cohen's kappa of two raters' answers [n]; None where neither ever changes its answer."""
    if len(np.unique(np.concatenate([one, other]))) < 2:
        return None
    from sklearn.metrics import cohen_kappa_score

    return float(cohen_kappa_score(one, other))
