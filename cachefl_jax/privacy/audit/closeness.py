"""How near features from an attack are to the true ones, with intervals over the attacked clients.

Axis letters: V attacked updates, B rows, D features, n rows of all clients.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.stats import norm


class Figure(NamedTuple):
    """A mean over attacked updates, and its interval by the normal distribution."""

    mean: float
    low: float
    high: float


def figure(values: np.ndarray, confidence: float) -> Figure:
    """Of values between 0 and 1, [V]; the interval stays within."""
    values = np.asarray(values, np.float64)
    mean, spread = values.mean(), values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.inf
    reach = norm.ppf(0.5 + confidence / 2) * spread if spread else 0.0
    return Figure(float(mean), float(max(mean - reach, 0)), float(min(mean + reach, 1)))


def paired(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Which of the features found [B', D] stands for each true one [B, D]: the pairs of largest |cos| in all, [B]."""
    rows, columns = linear_sum_assignment(-np.abs(true @ found.T))
    return columns[np.argsort(rows)]


def closeness(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """[V] the mean |cos| of `paired` features, [V, B, D] both."""
    pairs = ((guess[paired(guess, rows)], rows) for guess, rows in zip(found, true, strict=True))
    return np.array([np.abs((guess * rows).sum(axis=1)).mean() for guess, rows in pairs])


def nearest(found: np.ndarray, features: np.ndarray) -> np.ndarray:
    """The row of `features` [n, D] with the largest cosine, [...] of found [..., D]."""
    return np.argmax(found @ features.T, axis=-1)


def named_share(found: np.ndarray, rows: np.ndarray, features: np.ndarray) -> np.ndarray:
    """[V] the share of a client's rows [V, B] that are, among all rows `features`, the nearest of a feature found."""
    return np.array([np.isin(own, nearest(guess, features)).mean() for guess, own in zip(found, rows, strict=True)])
