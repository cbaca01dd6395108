"""Whether everybody did the same work: the final keys are compared before a single time is read."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from cachefl_jax.errors import UsageError
from experiments.benchmarks import workloads
from experiments.benchmarks.entrants import LABELS

EXPECTED = {"small": 11.92601, "large": 10.677165}  # sum of the keys after SGD's own rounds and the one before them


class Tolerance(NamedTuple):
    """How far sums and distances may lie apart: absolute, or relative where that is more."""

    key_sum: float
    relative_sum: float
    relative_change: float


SGD = Tolerance(5e-5, 1e-6, 1e-3)
FLOWER = Tolerance(1e-3, 1e-6, 1e-2)  # it adds up in the order in which clients happen to answer
ADAMW = Tolerance(5e-3, 1e-3, 1e-2)  # the steps of keys with almost no gradient hang on rounding


def tolerance(entrant: str, optimizer: str) -> Tolerance:
    return ADAMW if optimizer == "adamw" else FLOWER if entrant == "flwr" else SGD


def check_ours(result: Mapping, workload: str, optimizer: str) -> None:
    """Ours against the figure known for this workload, where it ran its own number of rounds.

    Raises UsageError: it is another."""
    own = result["rounds"] == workloads.WORKLOADS[workload].rounds
    if optimizer == "sgd" and workload in EXPECTED and own:
        compare(("ours", workload, optimizer), "key sum", result["key_sum"], EXPECTED[workload], SGD.key_sum)


def check_peer(entrant: str, result: Mapping, reference: Mapping, workload: str, optimizer: str) -> None:
    """A peer against ours after as many rounds.

    Args:
        result: its JSON line.
        reference: our key_sum and key_change.

    Raises UsageError: the keys differ by more than rounding."""
    allowed = tolerance(entrant, optimizer)
    total, change = reference["key_sum"], reference["key_change"]
    most = max(allowed.key_sum, allowed.relative_sum * abs(total))
    case = entrant, workload, optimizer
    compare(case, "key sum", result["key_sum"], total, most)
    most = max(allowed.relative_change * change, rounding_floor(workload) ** 2 / change)
    compare(case, "distance of the keys", result["key_change"], change, most)


def rounding_floor(workload: str) -> float:
    """The distance that rounding all keys once to float32 makes; it adds to another in squares.

    On many keys that hardly move it is no small part, and who rounds after every client differs from who rounds once.
    """
    job = workloads.WORKLOADS[workload]
    count = job.classes * job.keys * job.width
    return float(np.spacing(np.float32(job.width**-0.5))) / 2 * math.sqrt(count)


def compare(case: tuple[str, str, str], what: str, value: float, expected: float, most: float) -> None:
    """Raises UsageError: a figure of (entrant, workload, optimizer) is farther than `most` from what is expected."""
    if not math.isfinite(value) or abs(value - expected) > most:
        entrant, workload, optimizer = case
        field = f"{what} of {LABELS[entrant]} on {workload} by {optimizer}"
        mend = "no time is comparable before the keys agree: find out what it trains differently"
        raise UsageError(field, f"{value:.9g}", f"{expected:.9g} to within {most:.2g}", mend)
