"""How far a synthetic set is from real images in a feature space, and how diverse it is: the formulas alone.

All are computed in float64 and in blocks, so that 50,000 rows against 50,000 take no more memory than their features
in float64 and a block. Which rows are compared, and what the figures say, is in `cachefl_jax.synthesis.measures`.

Axis letters: n and m rows of two sets, D features, B rows of a block.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

BANDWIDTH, SCALE = 10.0, 1000.0  # of CMMD, as its paper has them
BLOCK_ENTRIES = 2**23  # of a block of distances, 64 MB
SAME = 1e-13  # a squared distance below this share of the squared norms is rounding


def frechet(first: np.ndarray, second: np.ndarray) -> float:
    """Squared Frechet distance of the normal distributions fitted to two sets, in squared units of a feature.

    0 to infinity, lower is better. |mu_1 - mu_2|^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2)), covariances with n - 1 (Heusel
    et al. 2017, of any features). With S = R^T R the last trace is the sum of the singular values of R_1 R_2^T: no root
    of a matrix is taken, and singular covariances are as good as others. It is biased: two samples of one
    distribution are apart by a distance that falls as 1/n, and is large while n is not many times D.

    Args:
        first: features [n, D], n at least 2.
        second: features [m, D], m at least 2."""
    (mean, root), (other_mean, other_root) = moments(first), moments(second)
    shared = np.linalg.svd(root @ other_root.T, compute_uv=False).sum()
    apart = ((mean - other_mean) ** 2).sum()
    return max(float(apart + (root**2).sum() + (other_root**2).sum() - 2 * shared), 0.0)


def moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(mean [D], R [at most D, D] upper triangular with R^T R the covariance) of features [n, D]."""
    mean = features.mean(axis=0, dtype=np.float64)
    root = np.empty((0, features.shape[1]))
    for rows in blocks(len(features), features.shape[1]):
        root = np.linalg.qr(np.concatenate([root, features[rows] - mean]), mode="r")
    return mean, root / np.sqrt(len(features) - 1)


def cmmd(first: np.ndarray, second: np.ndarray) -> float:
    """1000 times the squared maximum mean discrepancy of two sets, by a Gaussian kernel of bandwidth 10.

    About 0 to 40, lower is better; no unit. As in arXiv 2401.09603, of features scaled to norm 1 here, and the unbiased
    estimate (pairs of a row with itself are left out): sets of one distribution give 0 on average whatever their sizes,
    and a figure may be below 0. The paper's public code counts these pairs and is larger, for each set by about 5 times
    its mean squared distance over its size. So wide a kernel sees little but means: the figure is close to
    10 |mu_1 - mu_2|^2.

    Args:
        first: features [n, D], n at least 2.
        second: features [m, D], m at least 2."""
    first, second = unit(first), unit(second)
    count, other = len(first), len(second)
    within = closeness(first, first) / (count * (count - 1)) + closeness(second, second) / (other * (other - 1))
    return float(SCALE * (within - 2 * closeness(first, second) / (count * other)))


def closeness(first: np.ndarray, second: np.ndarray) -> float:
    """The sum of k - 1 over all pairs, k the kernel: k is near 1 everywhere, and a sum of it would lose digits. A row
    with itself adds 0."""
    return sum(np.expm1(squares / (-2 * BANDWIDTH**2)).sum() for _, squares in squared_distances(first, second))


class Neighbourhoods(NamedTuple):
    """What `prdc` finds; each from 0 up, higher is better, no units."""

    precision: float  # share of fake rows within reach of a real one; at most 1
    recall: float  # share of real rows within reach of a fake one; at most 1
    density: float  # how many real rows reach a fake one, over k; about 1 for sets alike, and may be above
    coverage: float  # share of real rows that reach a fake one; at most 1


def prdc(real: np.ndarray, fake: np.ndarray, nearest: int = 5) -> Neighbourhoods:
    """Precision, recall, density and coverage (arXiv 1904.06991, 2002.09797). A row reaches as far as its k-th nearest
    other row of its own set, by Euclidean distance.

    All depend on both sets' sizes: compare them between sets of the same size alone.

    Args:
        real: features [n, D], more than `nearest`.
        fake: features [m, D], more than `nearest`.
        nearest: k."""
    reach, fake_reach = (nearest_squares(rows, nearest) for rows in (real, fake))
    reached, recalled, covered = np.zeros(len(fake), np.int64), 0, 0
    for rows, squares in squared_distances(real, fake):
        within = squares < reach[rows, None]
        reached += within.sum(axis=0)
        covered += within.any(axis=1).sum()
        recalled += (squares < fake_reach).any(axis=1).sum()
    precision, density = np.mean(reached > 0), reached.mean() / nearest
    return Neighbourhoods(*map(float, (precision, recalled / len(real), density, covered / len(real))))


def nearest_squares(features: np.ndarray, nearest: int) -> np.ndarray:
    """Squared distance [n] of each row of [n, D] to its k-th nearest other row."""
    found = np.empty(len(features))
    for rows, squares in squared_distances(features, features):
        found[rows] = np.partition(squares, nearest, axis=1)[:, nearest]  # place 0 is the row itself
    return found


def vendi(features: np.ndarray) -> float:
    """How many wholly different images a set amounts to: the Vendi score (arXiv 2210.02410), cosine kernel, q = 1.

    1 (all alike) to n (each unlike all others), higher is more diverse. exp of the entropy of the eigenvalues of K / n,
    K = X X^T of rows of norm 1; these are the eigenvalues of X^T X / n too. It grows with n: compare sets of one size.

    Args:
        features: [n, D], no row of zeros."""
    count, width = features.shape
    if count <= width:
        rows = unit(features)
        kernel = rows @ rows.T
    else:
        parts = (unit(features[rows]) for rows in blocks(count, width))
        kernel = sum(part.T @ part for part in parts)
    weights = np.linalg.eigvalsh(kernel / count)
    weights = weights[weights > 0]
    return float(np.exp(-(weights * np.log(weights)).sum()))


class NearestReal(NamedTuple):
    """The real row that each fake row lies nearest to."""

    distances: np.ndarray  # [n] Euclidean
    rows: np.ndarray  # [n] of the real set
    near: float  # the distance below which a fake row is flagged


def nearest_real(fake: np.ndarray, real: np.ndarray, quantile: float = 0.01) -> NearestReal:
    """Nearest real rows of fake ones, to find what was memorised rather than drawn.

    Fake rows of the real distribution are flagged as often as `quantile` says, so a larger share is a sign of
    memorising.

    Args:
        fake: features [n, D].
        real: features [m, D], m at least 2.
        quantile: of the real rows' distances to their own nearest other real row; it makes `near`."""
    distances, chosen = np.empty(len(fake)), np.empty(len(fake), np.int64)
    for rows, squares in squared_distances(fake, real):
        chosen[rows] = squares.argmin(axis=1)
        distances[rows] = np.sqrt(squares.min(axis=1))
    return NearestReal(distances, chosen, float(np.quantile(np.sqrt(nearest_squares(real, 1)), quantile)))


def squared_distances(first: np.ndarray, second: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """(rows, squared Euclidean distances [B, m] of these rows of `first` to all of `second`), block after block."""
    other = np.asarray(second, np.float64)
    other_norms = (other**2).sum(axis=1)
    for rows in blocks(len(first), len(second)):
        part = np.asarray(first[rows], np.float64)
        norms = (part**2).sum(axis=1)[:, None] + other_norms
        squares = norms - 2 * (part @ other.T)
        squares[squares < SAME * norms] = 0
        yield rows, squares


def blocks(count: int, width: int) -> Iterator[slice]:
    """Slices of `count` rows, so that a block of rows of this width has at most BLOCK_ENTRIES entries."""
    step = max(BLOCK_ENTRIES // max(width, 1), 1)
    return (slice(start, start + step) for start in range(0, count, step))


def unit(features: np.ndarray) -> np.ndarray:
    """Rows [n, D] float64, scaled to norm 1."""
    rows = np.asarray(features, np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
