"""What the rules of `selection` compute, each on the features of one class.

Axis letters: m candidates of one class, r real images of it, N classes, D features.
"""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

Groups = Sequence[np.ndarray]  # of each key the rows that it is made of

STARTS = 10  # of k-means
LEAST_GAIN = 1e-9  # of an exchange of medoids, a row's share: less is rounding
LEAST_LENGTH = 1e-6  # of a sum of unit rows: a shorter one has no direction


class Margins(NamedTuple):
    """How well images agree with their class's text."""

    agreement: np.ndarray  # [m] cosine to the own class's text
    margin: np.ndarray  # [m] agreement less the best cosine to another class's text; of one class agreement itself
    runner_up: np.ndarray  # [m] that other class; of one class the own


def margins_of(features: np.ndarray, label: int, text: np.ndarray) -> Margins:
    """Of images of one class, [m, D], against the texts of all, [N, D]."""
    cosines = np.asarray(features, np.float64) @ np.asarray(text, np.float64).T
    own = cosines[:, label].copy()
    if len(text) == 1:
        return Margins(own, own, np.zeros(len(own), np.int64))
    cosines[:, label] = -np.inf
    return Margins(own, own - cosines.max(axis=1), cosines.argmax(axis=1))


def farthest(features: np.ndarray, real: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """`count` rows, those given first: each further one is the farthest from all before and from the real images."""
    rows = list(rows)
    if not rows and not len(real):
        rows = [int((features @ features.sum(axis=0)).argmax())]  # the medoid
    cosines = (features @ np.concatenate([real, features[rows]]).T).max(axis=1)  # to the nearest that is chosen
    while len(rows) < count:
        cosines[rows] = np.inf
        rows.append(int(cosines.argmin()))
        cosines = np.maximum(cosines, features @ features[rows[-1]])
    return np.array(rows)


def medoids(features: np.ndarray, count: int) -> np.ndarray:
    """PAM: rows taken one by one, each the best beside those before, then exchanged as long as the sum over all rows of
    the distance (1 - cosine) to the nearest medoid falls. Memory [m, m], and time `count` times that an exchange."""
    distances = 1 - features @ features.T
    rows, nearest = [], np.full(len(features), np.inf)
    for _ in range(count):
        row, _ = best_beside(distances, nearest, rows)
        rows.append(row)
        nearest = np.minimum(nearest, distances[:, row])
    cost = nearest.sum()
    while True:
        exchanges = []
        for place in range(count):
            rest = np.delete(distances[:, rows], place, axis=1).min(axis=1, initial=np.inf)
            row, lower = best_beside(distances, rest, rows)
            exchanges.append((lower, place, row))
        lower, place, row = min(exchanges)
        if lower >= cost - LEAST_GAIN * len(features):
            return np.array(rows)
        rows[place], cost = row, lower


def best_beside(distances: np.ndarray, nearest: np.ndarray, taken: list[int]) -> tuple[int, float]:
    """(the row that lowers the sum of `nearest` [m] the most, that sum), of rows that are not taken."""
    costs = np.minimum(nearest[:, None], distances).sum(axis=0)
    costs[taken] = np.inf
    row = int(costs.argmin())
    return row, float(costs[row])


def herded(features: np.ndarray, target: np.ndarray, count: int) -> np.ndarray:
    """`count` rows, each the one with which the sum of the rows taken has the largest cosine to `target` [D].

    Welling's herding follows a mean; here its direction alone is followed, for CLIP's texts and images lie apart
    (2203.02053), and no mean of images comes near a text."""
    rows, total = [], np.zeros(features.shape[1])
    for _ in range(count):
        sums = total + features
        cosines = sums @ target / np.maximum(np.linalg.norm(sums, axis=1), LEAST_LENGTH)
        cosines[rows] = -np.inf
        rows.append(int(cosines.argmax()))
        total = sums[rows[-1]]
    return np.array(rows)


def clusters(features: np.ndarray, count: int, seed: int) -> Groups:
    """The rows of each of `count` clusters, none of them empty: rows that are equal may be parted."""
    from sklearn.cluster import KMeans  # slow to import
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    with warnings.catch_warnings(), threadpool_limits(1):  # sums over threads come in any order
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer rows are different than there are clusters
        found = KMeans(count, n_init=STARTS, random_state=seed).fit(features).labels_
    groups = [np.flatnonzero(found == number) for number in np.unique(found)]
    while len(groups) < count:
        largest = max(range(len(groups)), key=lambda number: len(groups[number]))
        groups.append(groups[largest][:1])
        groups[largest] = groups[largest][1:]
    return groups
