"""Who trains at which step, where that is known before the run.

An accelerator's loop whose bound depends on data waits for the host to read it. With known sizes no bound does: clients
train side by side, the largest first, and those that have finished leave, so that the rest is a smaller program. Where
all clients take part in every round, the sizes of a cohort's places are the clients'. Where cohorts are drawn, a place
has room for as many rows as nearly every draw brings there, and a round that a draw does not fit goes the other way.

Axis letters: C clients of the population, L clients side by side.
"""

import sys
from typing import NamedTuple

import numpy as np

from cachefl_jax.federation.parts import Federation, Sizes
from cachefl_jax.federation.plan import Plan, fill_blocks

MOST_PARTS = 8  # each is a program of its own; with more, their bounds are read by the host, one by one
EXACT = 6  # different numbers of steps up to which each has a stage of its own
SPREAD = 4.0  # standard deviations of a count of drawn clients that a place leaves room for, and clients beside them
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


class Places(NamedTuple):
    """Rows of a cohort's places, the largest first."""

    sizes: Sizes  # () where they are not known
    exact: bool  # or the most that a place may have
    sure: bool  # whether every cohort fits


def with_sizes(federation: Federation, plan: Plan, client_rows: np.ndarray, backend: str) -> Federation:
    """The federation with its clients' sizes, rows [C], where an accelerator gains by knowing them."""
    if backend == "cpu" or plan.devices > 1 or plan.strategy == "scan":
        return federation
    # A step is written once, or there is none.
    if federation.local.compact or federation.local.work.statistics is not None:
        return federation
    return federation._replace(sizes=sizes_of(client_rows))


def places_of(federation: Federation, plan: Plan, places: int, clients: int, width: int) -> Places:
    """What is known of a cohort of so many places out of so many clients, whose params have `width` columns."""
    unknown, sizes = Places((), True, True), federation.sizes
    if not sizes or federation.participation.always_all(clients, federation.cohort):
        return unknown._replace(sizes=sizes)
    rows = np.repeat(*zip(*sizes, strict=True))
    most = np.pad(rows, (0, max(places - len(rows), 0)))[:places]
    usual = np.minimum(usual_rows(rows, places, (federation.cohort or places) / clients), most)
    found = Places(sizes_of(usual), False, bool((usual == most).all()))
    dual = plan.strategy == "dual"
    most_rows = (plan.block_rows,) if dual else ()
    parts = parts_of(found.sizes, (0, int((usual > 0).sum())), plan.client_chunk, *most_rows)
    return unknown if parts is None or (dual and rows[0] > width) else found


def usual_rows(rows: np.ndarray, places: int, share: float) -> np.ndarray:
    """[places] the rows that a drawn cohort's clients have at most, the largest first, but for one draw in thousands:
    of clients with `rows`, in descending order, each drawn with the probability `share`.

    Place i needs no more than the client of rank K has if at most i of the K larger ones are drawn."""
    ranks = np.arange(len(rows) + 1)
    drawn = share * ranks + SPREAD * (1 + np.sqrt(share * (1 - share) * ranks))
    last = np.searchsorted(drawn, np.arange(places), side="right") - 1  # -1: even of none
    return np.append(rows, 0)[np.maximum(last, 0)]


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
