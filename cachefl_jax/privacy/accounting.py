"""How much privacy rounds spend, by the accountants of dp-accounting: asked before a run for the noise that a budget
needs, and after it for the epsilon of so many rounds.

Rounds protect a client's whole update, or each of its examples. A release is a sum of these, each of norm S at most,
with Gaussian noise of standard deviation z S; z is the noise multiplier. Neighbours are federations that differ

* where all take part, each by a coin of its own (Poisson) or in turn: in one client more or less, which moves the
  sum by S at most;
* where cohorts of one size are drawn: in one client that has other data, which moves it by 2 S (arXiv 1808.00087,
  theorem 27, of which dp-accounting has Renyi divergences alone);
* where every update has noise of its own (local): in all that one client holds, which moves its update by 2 S;
* where every client adds a share of the sum's noise (distributed): in one client, whose update counts or is zeros;
* where every step has (DP-SGD): in one example that counts or does not, in its one batch of each epoch; that nobody
  knows which batch it is gives nothing here.
"""

import functools
import math
from typing import NamedTuple

import scipy.optimize

from cachefl_jax.privacy.discrete import concentrated

ACCOUNTANTS = ("pld", "rdp")
LARGE = 100.0  # above it a loss distribution takes too much memory, and Renyi's bound stands for it
LEAST = 2.0**-6  # noise multiplier, below which no budget is looked for


class Exposure(NamedTuple):
    """How a client's updates get into the rounds.

    Attributes:
        sampling: full, poisson, cohort (of one size), cyclic (in turn), local (noise at the client) or distributed
            (integer noise of all clients of a cohort).
        clients: C.
        cohort: clients a round, of Poisson's on average; C where all take part.
        accountant: pld, by privacy loss distributions, or rdp, by Renyi divergences.
        delta: of the guarantee.
        releases: noisy sums that a round makes of what one client, or one example, brings.
        bits: of a number in a distributed sum; 0: there is none.
    """

    sampling: str
    clients: int
    cohort: int
    accountant: str = "pld"
    delta: float = 1e-5
    releases: int = 1
    bits: int = 0

    @property
    def separation(self) -> int:
        """Rounds from one update of a client to its next, at least."""
        return -(-self.clients // self.cohort) if self.sampling == "cyclic" else 1


def events(exposure: Exposure, noise: float, rounds: int):
    """What the rounds release of a client, as dp-accounting writes it down; `noise` is z."""
    from dp_accounting import dp_event

    if exposure.sampling == "distributed":
        rho = concentrated(noise, exposure.cohort, exposure.bits)
        return dp_event.SelfComposedDpEvent(dp_event.ZCDpEvent(rho), rounds)
    halved = exposure.sampling in ("cohort", "local")
    event = dp_event.GaussianDpEvent(noise / 2 if halved else noise)
    if exposure.sampling == "poisson":
        event = dp_event.PoissonSampledDpEvent(exposure.cohort / exposure.clients, event)
    elif exposure.sampling == "cohort":
        event = dp_event.SampledWithoutReplacementDpEvent(exposure.clients, exposure.cohort, event)
    return dp_event.SelfComposedDpEvent(event, -(-rounds // exposure.separation) * exposure.releases)


def accountant_of(exposure: Exposure, accountant: str):
    """A new accountant of dp-accounting."""
    from dp_accounting import pld, privacy_accountant, rdp

    relations = privacy_accountant.NeighboringRelation
    relation = relations.REPLACE_ONE if exposure.sampling == "cohort" else relations.ADD_OR_REMOVE_ONE
    if accountant == "pld":
        return pld.PLDAccountant(relation)
    return rdp.RdpAccountant(neighboring_relation=relation)


@functools.lru_cache(maxsize=4096)
def spent(exposure: Exposure, noise: float, rounds: int) -> float:
    """Epsilon of so many rounds at noise multiplier z; infinite without noise."""
    if not rounds:
        return 0.0
    if not noise or (exposure.bits and math.isinf(concentrated(noise, exposure.cohort, exposure.bits))):
        return math.inf
    event = events(exposure, noise, rounds)
    bound = accountant_of(exposure, "rdp").compose(event).get_epsilon(exposure.delta)
    if exposure.accountant == "rdp" or bound > LARGE:
        return float(bound)
    return float(accountant_of(exposure, "pld").compose(event).get_epsilon(exposure.delta))


@functools.lru_cache(maxsize=1024)
def calibrated(exposure: Exposure, epsilon: float, rounds: int) -> float:
    """The least noise multiplier, within 2e-4 of it, by which so many rounds spend at most `epsilon`."""
    high = 1.0
    while spent(exposure, high, rounds) > epsilon:
        high *= 2
    while high > LEAST and spent(exposure, high / 2, rounds) <= epsilon:
        high /= 2
    if high <= LEAST:
        return high
    tolerance = 1e-4 * high
    gap = lambda noise: spent(exposure, float(noise), rounds) - epsilon  # noqa: E731
    found = float(scipy.optimize.brentq(gap, high / 2, high, xtol=tolerance))
    while found < high and gap(found) > 0:
        found = min(found + tolerance, high)
    return found


def most_rounds(exposure: Exposure, noise: float, epsilon: float, rounds: int) -> int:
    """How many of the rounds spend at most `epsilon`."""
    low, high = 0, rounds
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if spent(exposure, noise, middle) <= epsilon else (low, middle - 1)
    return low
