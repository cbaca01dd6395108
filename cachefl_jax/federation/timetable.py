"""Who trains at which step, where that is known before the run.

An accelerator's loop whose bound depends on data waits for the host to read it. With known sizes no bound does: clients
train side by side, the largest first, and those that have finished leave, so that the rest is a smaller program. Where
all clients take part in every round, the sizes of a cohort's places are the clients'. Where cohorts are drawn, the
i-th largest client of a cohort has no more rows than the i-th largest of all.

Axis letters: C clients of the population, L clients side by side.
"""

import sys
from typing import NamedTuple

import numpy as np

from cachefl_jax.federation.parts import Federation, Sizes
from cachefl_jax.federation.plan import Plan, fill_blocks

MOST_PARTS = 8  # each is a program of its own; with more, their bounds are read by the host, one by one
EXACT = 6  # different numbers of steps up to which each has a stage of its own
# Rows of a drawn cohort's places to those of its clients, on average. On an H200 places with far more room, and a
# branch for draws that do not fit, trained an uneven population no faster than bounds that the host reads, and took
# five times as long to compile (docs/figures.md).
ROOM = 1.25
GRID = 2 ** np.arange(31)  # else stages end at these: each is a program of its own, which takes a second to compile


class Stage(NamedTuple):
    """Steps `first` to `after` (not included) of the first `active` clients."""

    active: int
    first: int
    after: int
    exact: bool  # whether each of them takes all these steps
    present: bool = True  # whether each of them has any row


class Part(NamedTuple):
    """Consecutive clients of the sorted cohort, side by side."""

    first: int  # place of the first one
    rows: np.ndarray  # [L] of each, the largest first; 1 or more
    exact: bool = True  # or the most that each may have


def with_sizes(federation: Federation, plan: Plan, client_rows: np.ndarray, backend: str) -> Federation:
    """The federation with its clients' sizes, rows [C], where an accelerator gains by knowing them."""
    if backend == "cpu" or plan.all_devices > 1 or plan.strategy == "scan":
        return federation
    work = federation.local.work
    # A step is written once, or there is none; clients begin with what they kept, or train a model of their own, too.
    if federation.local.compact or work.statistics or work.begin or work.keep:
        return federation
    if federation.partial or federation.versions:  # clients do not all start alike, or stop where their rows end
        return federation
    return federation._replace(sizes=sizes_of(client_rows))


def places_of(federation: Federation, plan: Plan, places: int, clients: int, width: int) -> tuple[Sizes, bool]:
    """(rows of a cohort's places, () where they are not known; whether these are exact, or the most that each may have)
    of so many places out of so many clients, whose params have `width` columns."""
    sizes = federation.sizes
    if not sizes or federation.participation.always_all(clients, federation.cohort):
        return sizes, True
    rows = np.repeat(*zip(*sizes, strict=True))
    most = rows[:places]
    typical = rows.sum() / clients * (federation.cohort or places)
    large = plan.strategy == "dual" and rows[0] > width  # who of a cohort trains on the params is not known
    return ((), True) if large or most.sum() > ROOM * typical else (sizes_of(most), False)


def sizes_of(client_rows: np.ndarray) -> Sizes:
    """(rows, how many clients have so many), the largest first, without empty ones."""
    rows = np.asarray(client_rows)
    values, counts = np.unique(rows[rows > 0], return_counts=True)
    return tuple(zip(values[::-1].tolist(), counts[::-1].tolist(), strict=True))


def count_above(sizes: Sizes, rows: int) -> int:
    """How many clients have more rows than that."""
    return sum(count for each, count in sizes if each > rows)


def parts_of(
    sizes: Sizes, span: tuple[int, int], most_clients: int, most_rows: int = sys.maxsize // 2, exact: bool = True
) -> list[Part] | None:
    """The clients `span[0]` to `span[1]` (not included) of the sorted cohort, in parts of at most so many clients and
    rows; None where these are too many, or the sizes are not known."""
    if not sizes:
        return None
    values, counts = zip(*sizes, strict=True)
    place, parts = span[0], []
    for block in fill_blocks(np.repeat(values, counts)[slice(*span)], most_rows):
        for begin in range(0, len(block), most_clients):
            rows = block[begin : begin + most_clients]
            parts.append(Part(place, rows, exact))
            place += len(rows)
    return parts if len(parts) <= MOST_PARTS else None


def stages_of(steps: np.ndarray, known: bool = True) -> list[Stage]:
    """The stages of clients with so many steps [L], in descending order, each 1 or more; or, where not `known`, with so
    many at most."""
    ends = steps
    if len(np.unique(steps)) > EXACT:
        ends = np.minimum(GRID[np.searchsorted(GRID, steps)], steps[0])
    stages, first = [], 0
    for after in np.unique(ends).tolist():
        active = int((ends >= after).sum())
        stages.append(Stage(active, first, after, known and bool(steps[active - 1] >= after), known))
        first = after
    return stages
