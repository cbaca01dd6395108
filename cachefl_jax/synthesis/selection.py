"""Which images of the server's set become keys of the cache, chosen in the encoder's space by a rule:

first     the first of each class, in the set's order
margin    those whose cosine to their class's text is the furthest above that to any other class's
farthest  farthest-point sampling (Gonzalez 1985): the medoid, then each time the image that lies the farthest from all
          chosen before
medoids   k-medoids by PAM (Kaufman and Rousseeuw 1990): images to which all of the class lie the nearest in sum
herding   after Welling (2009): each time the image with which the mean of those chosen points most nearly along the
          class's text
shots     the same along the mean of the class's real images
mixture   a share of them by margin, the others by distance from these
means     k-means (scikit-learn, ten starts): a key is the normalised mean of a cluster's images

Real images among the candidates are keys under every rule, and the rule chooses the others. What comes out does not
depend on the order of the rows, but under "first": candidates are compared in the order of their features' bytes, and
of equally good ones the first is taken. Where a class has as many images as keys, all of them are.

Axis letters: n rows of the set, N classes, K keys a class, D features; m candidates of one class.
"""

import math
from typing import NamedTuple

import numpy as np

from cachefl_jax.data.bank import normalise
from cachefl_jax.errors import UsageError
from cachefl_jax.synthesis.rules import LEAST_LENGTH, Groups, clusters, farthest, herded, margins_of, medoids

BY_TEXT = ("margin", "herding", "mixture")


class Rule(NamedTuple):
    """How keys are chosen."""

    name: str = "first"
    mixture: float = 0.5  # "mixture": the share that is chosen by margin
    seed: int = 0  # "means": of the starts


class Set(NamedTuple):
    """The candidates."""

    features: np.ndarray  # [n, D] float32, L2-normalised
    labels: np.ndarray  # [n]
    text: np.ndarray | None = None  # [N, D], L2-normalised
    real: np.ndarray | None = None  # [n] bool, real images among them


class Selected(NamedTuple):
    """The keys of the cache at round 0."""

    keys: np.ndarray  # [N, K, D] float32, L2-normalised
    members: tuple[tuple[np.ndarray, ...], ...]  # [N][K] rows of the set that each key is made of


class OfClass(NamedTuple):
    """The candidates of one class that are no real images, and what a rule knows beside them."""

    features: np.ndarray  # [m, D] float64
    real: np.ndarray  # [r, D] float64: the class's real images, keys already
    label: int
    text: np.ndarray | None  # [N, D]


def select(rule: Rule, candidates: Set, per_class: int) -> Selected:
    """`per_class` keys of every class.

    Raises UsageError: a class has fewer candidates, the rule needs texts or real images that are not there, or a
    mean has no direction."""
    check(rule, candidates, per_class)
    by_class = (groups_of_class(rule, candidates, label, per_class) for label in range(classes_of(candidates)))
    members = tuple(tuple(groups) for groups in by_class)
    keys = [[key_of(candidates, rows) for rows in groups] for groups in members]
    return Selected(np.array(keys, np.float32), members)


def classes_of(candidates: Set) -> int:
    return int(candidates.labels.max()) + 1 if candidates.text is None else len(candidates.text)


def check(rule: Rule, candidates: Set, per_class: int) -> None:
    """Refuses what cannot be selected from."""
    counts = np.bincount(candidates.labels, minlength=classes_of(candidates))
    poorest = int(counts.argmin())
    if not counts[poorest]:
        allowed = "one or more of every class"
        raise UsageError("synthetic set", f"no rows of class number {poorest}", allowed, "bring some of that class")
    if per_class > counts[poorest]:
        allowed = f"1 to {counts.min()}, what the synthetic set has of its poorest class (number {poorest})"
        raise UsageError("cache.keys_per_class", per_class, allowed, "lower it, or make a larger synthetic set")
    if rule.name in BY_TEXT and candidates.text is None:
        allowed = "first | farthest | medoids | means: there are no text features, which the others choose by"
        raise UsageError("synthesis.selection", rule.name, allowed, "choose one of these, or bring text_features")
    real = candidates.labels[:0] if candidates.real is None else candidates.labels[candidates.real]
    if rule.name == "shots" and len(np.unique(real)) < len(counts):
        allowed = "another rule: the server's set has no real images of every class beside others"
        raise UsageError("synthesis.selection", rule.name, allowed, "synthesis.selection=herding needs none")


def groups_of_class(rule: Rule, candidates: Set, label: int, per_class: int) -> list[np.ndarray]:
    """Of each key of a class the rows that it is made of, in ascending order of the first."""
    rows = np.flatnonzero(candidates.labels == label)
    if len(rows) == per_class:
        return [np.array([row]) for row in rows]
    is_real = np.zeros(len(rows), bool) if candidates.real is None else candidates.real[rows]
    real, others = rows[is_real][:per_class], rows[~is_real]
    count = per_class - len(real)
    if rule.name != "first":
        others = np.array(sorted(others, key=lambda row: candidates.features[row].tobytes()), rows.dtype)
    features = (candidates.features[each].astype(np.float64) for each in (others, real))
    groups = groups_by(rule, OfClass(*features, label, candidates.text), count) if count else []
    found = [*([row] for row in real), *(others[group] for group in groups)]
    return sorted((np.sort(group) for group in found), key=lambda group: group[0])


def key_of(candidates: Set, rows: np.ndarray) -> np.ndarray:
    """[D]: an image's features, or the direction of several images' mean."""
    features = candidates.features[rows]
    if len(rows) == 1:
        return features[0]
    mean = features.astype(np.float64).mean(axis=0)
    if np.linalg.norm(mean) < LEAST_LENGTH:
        found = f"means, of which one of class number {candidates.labels[rows[0]]} has no direction"
        allowed = "another rule: the features of these images point opposite ways"
        raise UsageError("synthesis.selection", found, allowed, "raise cache.keys_per_class, or choose another")
    return normalise(mean[None])[0]


def groups_by(rule: Rule, of_class: OfClass, count: int) -> Groups:
    """Rows of one class, of each key those that it is made of."""
    features, label, name = of_class.features, of_class.label, rule.name
    if name == "means":
        return clusters(features, count, rule.seed)
    if name == "first":
        rows = np.arange(count)
    elif name == "medoids":
        rows = medoids(features, count)
    elif name == "herding":
        rows = herded(features, of_class.text[label], count)
    elif name == "shots":
        rows = herded(features, of_class.real.mean(axis=0), count)
    else:
        share = {"margin": 1.0, "farthest": 0.0, "mixture": rule.mixture}[name]
        rows = np.arange(0)
        if best := math.floor(share * count + 0.5):
            margins = margins_of(features, label, of_class.text).margin
            rows = np.argsort(-margins, kind="stable")[:best]
        rows = farthest(features, of_class.real, rows, count)
    return [np.array([row]) for row in rows]
