"""What every row took every test image for, and comparisons on any part of the images.

Axis letters: S seeds, n test rows.
"""

from typing import NamedTuple

import numpy as np

from cachefl_jax.study.folder import Key, Lines, unpacked_classes
from cachefl_jax.study.statistics import EQUAL, LEVEL, Difference, Sample, difference, holm, verdict


class TestRows(NamedTuple):
    """The test images, the same for all seeds and rows."""

    __test__ = False  # pytest: this is none

    files: list[str]  # n places below the folder of the sites
    labels: np.ndarray  # [n]
    sites: np.ndarray  # [n] numbers of clients, -1 for a site that has no training images
    class_names: tuple[str, ...]
    site_names: tuple[str, ...]


Predictions = dict[str, np.ndarray]  # by row [S, n]


def predictions_of(lines: Lines, setting: str, chosen: dict[str, int], seeds: range) -> Predictions:
    """What the chosen points of these rows took each test image for. A row that diverged for some seed is left out."""
    found = {}
    for row, candidate in chosen.items():
        told = [lines[Key(setting, row, seed, candidate)].get("predicted") for seed in seeds]
        if None not in told:
            found[row] = np.stack([unpacked_classes(text) for text in told])
    return found


def sample(predicted: np.ndarray, labels: np.ndarray) -> Sample:
    """A row's runs, [S, n], on these test rows."""
    correct = predicted == labels
    return Sample(correct.mean(axis=1), list(correct.astype(float)), ["same"] * len(correct))


def standard_error(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Of the mean accuracy over seeds: seeds, and test rows with their means over seeds, as independent sources."""
    correct = predicted == labels
    rows = correct.mean(axis=0).var() / len(labels)
    seeds = correct.mean(axis=1).var(ddof=1) / len(correct) if len(correct) > 1 else 0.0
    return float(np.sqrt(rows + seeds))


def compared(pairs: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> list[dict]:
    """Comparisons of a family, each (predictions [S, n], those of the rival, labels [n]): points, half of the 95%
    interval, p by Holm's rule over the family, and the verdict. None of an image: nothing is told."""
    differences = [difference(sample(left, labels), sample(right, labels)) if len(labels) else None
                   for left, right, labels in pairs]  # fmt: skip
    adjusted = holm([None if each is None else each.p for each in differences])
    count = sum(p is not None for p in adjusted)
    return [told(each, p) | {"comparisons": count} for each, p in zip(differences, adjusted, strict=True)]


def told(found: Difference | None, p: float | None) -> dict:
    """p is adjusted, p_single is not."""
    if found is None:
        return {"points": None, "half": None, "p": None, "p_single": None, "verdict": verdict(0.0, None)}
    half = None if found.half is None else 100 * found.half
    return {"points": 100 * found.mean, "half": half, "p": p, "p_single": found.p, "verdict": verdict(found.mean, p)}


def reason(found: dict) -> str:
    """The p that decides where the interval seems to say something else; '' for any other.

    An interval without 0 may belong to no difference: p is adjusted, and intervals are not. One with 0 may belong to a
    difference, to a hair: that over test rows is a bootstrap's, and their p another test's."""
    half, single = found.get("half"), found.get("p_single")
    if half is None or single is None or (abs(found["points"]) <= half) == (found["verdict"] == EQUAL):
        return ""
    if found["verdict"] != EQUAL:
        return f"p = {found['p']:.2g}"
    if single > LEVEL:
        return f"p = {single:.2g}"
    return f"p = {single:.2g} by itself, {found['p']:.2g} adjusted for {found['comparisons']} comparisons"
