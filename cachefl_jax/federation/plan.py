"""How a cohort is spread over time and devices: a strategy, and sizes that suit the machine and the clients."""

from typing import NamedTuple

import numpy as np

from cachefl_jax.federation.local import LocalTraining
from cachefl_jax.federation.updates import LINEAR_OPTIMIZERS

STRATEGIES = ("scan", "chunk", "vmap", "dual")
CHUNK = {"cpu": 8, "other": 64}  # clients side by side
# Measured on two CPU cores; what an accelerator likes is a guess.
LANE_SCORES = {"cpu": 2**17, "other": 2**24}  # scores of one step of all lanes: fills a kernel, stays in the caches
BLOCK_NUMBERS = {"cpu": 2**21, "other": 2**27}  # scores and features of a block, for the same reasons
FEWEST_ROWS = 512  # of a block: fewer make slow products
IDLE = 1.07  # steps of all lanes, idle ones included, to the steps that are needed
TRIES = 64  # block sizes that are compared
MANY_BLOCKS = 200  # with so many, what is left empty in each is small whatever their size


class Plan(NamedTuple):
    """A strategy with its sizes.

    Attributes:
        strategy: scan (one client after another), chunk (some side by side), vmap (all at once on a stacked pytree)
            or dual (on coefficients).
        client_chunk: clients side by side on each device.
        devices: over how many devices, of all processes, the cohort is dealt.
        block_rows: rows of a block of the dual strategy.
    """

    strategy: str = "scan"
    client_chunk: int = 1
    devices: int = 1
    block_rows: int = 0


class Shapes(NamedTuple):
    """What the sizes of a plan are chosen by."""

    client_rows: np.ndarray  # [C]
    cohort: int  # clients a round
    scores: int  # J, the params' rows
    width: int  # D


def make_plan(
    strategy: str,
    local: LocalTraining,
    shapes: Shapes,
    devices: int = 1,
    chunk: int = 0,
    block_rows: int = 0,
    backend: str = "cpu",
) -> Plan:
    """The plan of a strategy; sizes that are 0 are chosen."""
    share, kind = -(-shapes.cohort // devices), "cpu" if backend == "cpu" else "other"
    if strategy == "scan":
        return Plan("scan", 1, devices)
    if strategy == "vmap":
        return Plan("vmap", share, devices)
    if strategy == "chunk":
        return Plan("chunk", min(chunk or CHUNK[kind], share), devices)
    rows = typical_cohort(shapes, devices)
    most = max(LANE_SCORES[kind] // (local.batch_size * shapes.scores), 1)
    lanes = chunk or choose_lanes(-(-rows // local.batch_size), min(most, share))
    block = block_rows or choose_block(rows, shapes, BLOCK_NUMBERS[kind])
    return Plan("dual", lanes, devices, max(block, min(local.capacity, shapes.width)))


def typical_cohort(shapes: Shapes, devices: int) -> np.ndarray:
    """Rows of the clients that a device gets in a typical round and trains on coefficients, largest first."""
    rows = np.sort(shapes.client_rows)[::-1]
    places = np.linspace(0, len(rows) - 1, shapes.cohort).round().astype(int)[::devices]
    rows = rows[places]
    return rows[(rows > 0) & (rows <= shapes.width)]


def choose_lanes(steps: np.ndarray, most: int) -> int:
    """The most clients side by side, of `steps` in descending order, that seldom wait for each other."""
    for lanes in range(most, 1, -1):
        if steps[::lanes].sum() * lanes <= IDLE * steps.sum():
            return lanes
    return 1


def choose_block(rows: np.ndarray, shapes: Shapes, numbers: int) -> int:
    """Rows of a block: about `numbers` numbers, and of those sizes the one of which whole clients leave least empty."""
    middle = max(numbers // (shapes.scores + 2 * shapes.width), FEWEST_ROWS)
    total = int(rows.sum())
    if total <= middle or total > MANY_BLOCKS * middle:
        return min(middle, max(total, 1))
    ends = np.cumsum(rows)
    sizes = np.linspace(0.7 * middle, 1.5 * middle, TRIES).astype(int)
    typical = max(int(np.median(rows)), 1)  # clients of one size fill its multiples
    sizes = np.union1d(sizes, sizes // typical * typical)
    sizes = sizes[sizes >= max(rows.max(), 1)]
    return int(min(sizes, key=lambda size: (count_blocks(ends, size) * size, -size), default=rows.max()))


def count_blocks(ends: np.ndarray, size: int) -> int:
    """Blocks of `size` rows that clients with these cumulative rows fill, none of them cut in two."""
    count, done = 0, 0
    while done < ends[-1]:
        done = ends[np.searchsorted(ends, done + size, side="right") - 1]
        count += 1
    return count


def check(plan: Plan, local: LocalTraining, width: int) -> None:
    """Whether the plan can train this, where features have `width` numbers.

    Raises:
        ValueError: it cannot.
    """
    if plan.strategy not in STRATEGIES:
        raise ValueError(f"strategy {plan.strategy!r} is none of {', '.join(STRATEGIES)}")
    if plan.client_chunk < 1 or plan.devices < 1:
        raise ValueError(f"client_chunk {plan.client_chunk} and devices {plan.devices} must be 1 or more")
    if plan.strategy == "dual" and not fits_dual(local):
        raise ValueError("dual needs a linear loss and sgd, momentum or nesterov")
    largest = min(local.capacity, width)
    if plan.strategy == "dual" and plan.block_rows < largest:
        raise ValueError(f"block_rows {plan.block_rows} cannot hold a client of {largest} rows")


def fits_dual(local: LocalTraining) -> bool:
    """Whether local training may run on coefficients."""
    return local.linear is not None and local.optimizer in LINEAR_OPTIMIZERS
