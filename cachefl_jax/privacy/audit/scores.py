"""From what is seen of canaries to a lower bound on epsilon, by the auditing of jax-privacy.

Every bound holds with the confidence that is asked for: thresholds are chosen on a part of the trials, and errors are
counted on the others (Clopper-Pearson intervals; Jagielski et al., arXiv 2006.07709).
"""

import importlib.util

import numpy as np
import scipy.linalg
import scipy.stats

from cachefl_jax.errors import UsageError
from cachefl_jax.privacy.matrix import coefficients

CHOOSING = 0.2  # the share of the trials that thresholds are chosen on


def check_package() -> None:
    """Raises UsageError: jax-privacy is not installed."""
    if importlib.util.find_spec("jax_privacy") is None:
        mend = 'pip install "cachefl_jax[privacy]"'
        raise UsageError("--parts", "canaries (no package jax-privacy)", "parts that do without it", mend)


def weigh_rounds(seen: np.ndarray, comes: np.ndarray, bands: int = 0) -> np.ndarray:
    """One score of each trial, [T], from what is seen in its rounds, [T, R]: the best there is for Gaussian noise.

    Args:
        seen: along the canary's direction.
        comes: [R], 1 where the canary takes part, as far as that is known.
        bands: of correlated noise, C^-1 Z, which C makes independent again (`cachefl_jax.privacy.matrix`); 0: it is.
    """
    if bands:
        rounds = len(comes)
        lower = scipy.linalg.toeplitz(
            np.resize(np.append(coefficients(bands), np.zeros(rounds)), rounds), np.zeros(rounds)
        )
        seen, comes = seen @ lower.T, lower @ comes
    return seen @ comes


def by_a_coin(signals: np.ndarray, share: float, noise: float) -> np.ndarray:
    """The log of how much likelier what is seen, [T, R], is with a canary that comes to each round by a coin, [T].

    Args:
        signals: 1 where it comes and 0 where it does not, with noise.
        share: the coin's probability.
        noise: its standard deviation.
    """
    return np.logaddexp(np.log1p(-share), np.log(share) + (signals - 0.5) / noise**2).sum(axis=1)


def split(scores: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(those to choose a threshold on, those to count on)."""
    shuffled = np.random.default_rng(seed).permutation(scores)
    first = max(int(CHOOSING * len(scores)), 1)
    return shuffled[:first], shuffled[first:]


def any_mechanism(inside: np.ndarray, outside: np.ndarray, delta: float, confidence: float) -> float:
    """What epsilon is at least, whatever the mechanism is, for scores with and without the canary, [T] each."""
    from jax_privacy.auditing import CanaryScoreAuditor, Split

    strategy = Split(threshold_estimation_frac=CHOOSING, seed=0)
    auditor = CanaryScoreAuditor(inside, outside)
    return float(auditor.epsilon_clopper_pearson(1 - confidence, delta, threshold_strategy=strategy))


def gaussian_mechanism(inside: np.ndarray, outside: np.ndarray, delta: float, confidence: float) -> float:
    """The same where all noise is Gaussian and it is known who comes when. Then one threshold tells all: mu-GDP is
    refuted for any mu below a bound, and epsilon follows from that and delta (Dong et al., arXiv 1905.02383, corollary
    2.13).

    jax-privacy's own `epsilon_from_gdp` is not used: it takes upper bounds of both errors for lower ones where they add
    up to more than 1."""
    from dp_accounting import get_epsilon_gaussian

    (chosen_in, inside), (chosen_out, outside) = split(inside, 0), split(outside, 1)
    threshold = (chosen_in.mean() + chosen_out.mean()) / 2
    missed, false = (inside < threshold).sum(), (outside >= threshold).sum()
    upper = lambda k, n: scipy.stats.beta.ppf(1 - (1 - confidence) / 2, k + 1, n - k) if k < n else 1.0  # noqa: E731
    mu = scipy.stats.norm.isf(upper(false, len(outside))) - scipy.stats.norm.ppf(upper(missed, len(inside)))
    return float(get_epsilon_gaussian(1 / mu, delta)) if mu > 0 else 0.0


def in_one_run(scores: np.ndarray, inside: np.ndarray, delta: float, confidence: float) -> float:
    """The same from one run with many canaries, [W], each of which was in by a coin (Steinke et al., arXiv
    2305.08846)."""
    from jax_privacy.auditing import CanaryScoreAuditor

    return float(CanaryScoreAuditor(scores[inside], scores[~inside]).epsilon_one_run(1 - confidence, delta))
