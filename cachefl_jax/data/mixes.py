"""Dirichlet over clients: clients of equal size, each with its own mix of labels.

Hsu et al., arXiv 1909.06335, section 3: client c draws q_c ~ Dirichlet(concentration * prior), the prior being the
classes' shares of all rows, and takes its rows by q_c. Mixes overdraw some classes; who wanted a class that is used up
draws from its mix over those left. In what order clients ask matters to the late ones: here nobody is first, for whose
wishes are met is decided at random among all that have them.

No mix is ever written down. Draws from a Dirichlet mix are those of an urn (Blackwell & MacQueen, Annals of Statistics
1(2), 1973): after j draws the next is a new one from the prior with probability a / (a + j), a the concentration, else
a copy of one of the j. A mix without one of its classes, scaled up to 1, is again Dirichlet and independent of that
class, so the urn goes on with what it holds of the classes left. A round takes memory in proportion to the rows, and
little more time than that, for any number of classes and clients.
"""

import numpy as np


def mixes(rng: np.random.Generator, labels: np.ndarray, clients: int, concentration: float) -> np.ndarray:
    """Owners [n]: sizes equal to within one row, labels by a mix of each client's own.

    Every round of wishes but the last uses up a class, so there are at most as many rounds as classes."""
    present, numbers, supply = np.unique(labels, return_inverse=True, return_counts=True)
    prior, left = supply / len(labels), supply.copy()
    holder = np.sort(np.arange(len(labels)) % clients)  # [n] places, in the order of their clients
    drawn = np.full(len(labels), -1)  # the class of each place; -1 = waits
    while (drawn < 0).any():
        places, wishes = wish(rng, holder, drawn, np.where(left > 0, prior, 0), concentration)
        met = lottery(rng, wishes, left)
        drawn[places[met]] = wishes[met]
        left -= np.bincount(wishes[met], minlength=len(present))
    rows = np.lexsort((rng.random(len(labels)), numbers))
    owners = np.zeros(len(labels), np.int64)
    owners[rows] = holder[np.argsort(drawn, kind="stable")]
    return owners


def wish(
    rng: np.random.Generator, holder: np.ndarray, drawn: np.ndarray, prior: np.ndarray, concentration: float
) -> tuple[np.ndarray, np.ndarray]:
    """The places that wait, and the class that each of them draws from its client's urn.

    Args:
        holder: [n] client of each place, ascending.
        drawn: [n] class of each place, -1 where it waits.
        prior: [N] of the classes left, 0 for the others.
        concentration: of the mixes over all classes."""
    waits = drawn < 0
    in_urn = np.zeros(holder[-1] + 1, bool)
    in_urn[holder[waits]] = True
    urn = np.flatnonzero(in_urn[holder] & (waits | (prior[drawn] > 0)))
    urn = urn[np.lexsort((waits[urn], holder[urn]))]  # a client's places side by side, those that wait behind
    begins = np.searchsorted(holder[urn], holder[urn])
    before, new = np.arange(len(urn)) - begins, waits[urn]
    total = concentration * prior.sum()
    copies = new & (before > 0) & (rng.random(len(urn)) * (total + before) >= total)
    source = np.where(copies, begins + (rng.random(len(urn)) * before).astype(np.int64), np.arange(len(urn)))
    # A copy of a copy: each step halves the way to the draw that they all go back to.
    while (source[source] != source).any():
        source = source[source]
    classes = np.flatnonzero(prior)
    ends = np.cumsum(prior[classes])
    fresh = np.searchsorted(ends, rng.random(len(urn)) * ends[-1], side="right")
    values = np.where(new, classes[np.minimum(fresh, len(classes) - 1)], drawn[urn])
    return urn[new], values[source][new]


def lottery(rng: np.random.Generator, wishes: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Which of the `wishes` (classes) are met, as indices: at random, of each class as many as are `left` [N]."""
    order = np.lexsort((rng.random(len(wishes)), wishes))
    ranked = wishes[order]
    rank = np.arange(len(order)) - np.searchsorted(ranked, ranked)
    return order[rank < left[ranked]]
