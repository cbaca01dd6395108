"""How a cohort is spread over time and devices: a strategy, and sizes that suit the machine and the clients."""

from typing import NamedTuple

import numpy as np

from cachefl_jax.config.engine import STRATEGIES
from cachefl_jax.federation.local import LocalTraining
from cachefl_jax.federation.optimizers import LINEAR_OPTIMIZERS
from cachefl_jax.federation.participation import deal
from cachefl_jax.federation.parts import Federation

# The CPU's sizes are measured on two cores, a device each: `experiments.benchmarks.ours`, --workload=small and large,
# --optimizer=adamw --strategy=chunk for CHUNK and sgd with dual for the others, each size halved and doubled in turn in
# one process, medians of 7 turns on a busy machine. Half or double changes a round by 11% at most, about the noise
# there, but for CHUNK: 16 clients side by side take 1.8 times as long as 8.
CHUNK = 8  # clients side by side
LANE_SCORES = 2**16  # scores of one step of all lanes: fills a kernel, stays in the caches
BLOCK_NUMBERS = 3 * 2**20  # features, scores and U of a block: all devices' share the caches
BLOCK_ROWS = 2048  # a block never has more rows
LEAST_ROWS = 640  # and may always have so many: fewer make slow products
# These only guide the search for the size of a block and the lanes, by counts of rows and steps; no clock is asked.
BLOCK_SPAN = 4  # how many times as large the largest block may be as the smallest
BLOCK_COST = 16  # what every block costs whatever is in it, in rows
TRIES = 64  # block sizes that are compared
IDLE = 1.07  # steps of all lanes, idle ones included, to the steps that are needed
BUSIEST = 4  # devices of a round that sizes are chosen by
DRAWS = 2  # cohorts that sizes are chosen by, where they are drawn
# An accelerator's follow from its memory: idle lanes are free there, waiting is not (docs/figures.md, on an H100).
MEMORY = 8 * 2**30  # bytes of a device that does not tell
SHARE = 0.5  # of them, for what is side by side
COPIES = 12  # of the params that a client side by side takes: gradient, update, moments, and what they were before
NUMBERS = 6  # of each score of a block: with the server's params, U, as gathered for a step, slopes, and theirs before
MANY_BLOCKS = 30  # with so many, what is left empty in each is small whatever their size


class Plan(NamedTuple):
    """A strategy with its sizes.

    Attributes:
        strategy: scan (one client after another), chunk (some side by side), vmap (all at once on a stacked pytree)
            or dual (on coefficients).
        client_chunk: clients side by side on each device.
        devices: over how many devices, of all processes, the cohort is dealt; or so many groups of devices.
        block_rows: rows of a block of the dual strategy.
        class_devices: devices of a group; each has a share of the classes' params, and of what is frozen for them.
        classes: N, where a group is of several devices.
        own_rows: a group has the rows of its own clients alone (`own_rows`), instead of all.
    """

    strategy: str = "scan"
    client_chunk: int = 1
    devices: int = 1
    block_rows: int = 0
    class_devices: int = 1
    classes: int = 0
    own_rows: bool = False

    @property
    def all_devices(self) -> int:
        """Over how many devices, of all processes, its arrays lie."""
        return self.devices * self.class_devices


class Shapes(NamedTuple):
    """What the sizes of a plan are chosen by."""

    client_rows: np.ndarray  # [C]
    cohort: int  # clients a round
    scores: int = 0  # J, the params' rows, where they may be trained on coefficients
    width: int = 0  # D
    client_chunk: int = 0  # clients side by side; 0: chosen
    block_rows: int = 0  # of the dual strategy; 0: chosen
    params: int = 0  # bytes of the params
    memory: int = 0  # bytes of an accelerator's device; 0: not known


def make_plan(strategy: str, local: LocalTraining, shapes: Shapes, devices: int = 1, backend: str = "cpu") -> Plan:
    """The plan of a strategy; sizes that are 0 are chosen."""
    share = -(-shapes.cohort // devices)
    if strategy == "scan":
        return Plan("scan", 1, devices)
    if strategy == "vmap":
        return Plan("vmap", share, devices)
    if strategy == "chunk":
        chunk = shapes.client_chunk or (CHUNK if backend == "cpu" else most_side_by_side(shapes))
        return Plan("chunk", min(chunk, share), devices)
    sizes = dual_sizes if backend == "cpu" else dual_sizes_by_memory
    return Plan("dual", *sizes(local, shapes, devices))


def most_side_by_side(shapes: Shapes) -> int:
    """Clients whose params, with all that a step needs of them, fit side by side into an accelerator's memory."""
    return max(int(SHARE * (shapes.memory or MEMORY) / (COPIES * max(shapes.params, 1))), 1)


def dual_sizes_by_memory(local: LocalTraining, shapes: Shapes, devices: int) -> tuple[int, int, int]:
    """(lanes, devices, rows of a block) of an accelerator: all clients side by side, as far as its memory goes."""
    room = SHARE * (shapes.memory or MEMORY) / 4  # numbers
    largest, share = min(local.capacity, shapes.width), -(-shapes.cohort // devices)
    most = max(int(room / (NUMBERS * shapes.scores + shapes.width)), largest)
    lanes = shapes.client_chunk or min(most // largest, share)  # each takes the room of the largest
    needed = max(int(rows.sum()) for shares in typical_rounds(shapes, devices) for rows in [*shares, np.ones(1)])
    return lanes, devices, max(shapes.block_rows or min(most, needed), largest)


def dual_sizes(local: LocalTraining, shapes: Shapes, devices: int) -> tuple[int, int, int]:
    """(lanes, devices, rows of a block) of a CPU, for the clients that train on coefficients."""
    rounds = typical_rounds(shapes, devices)
    most_rows = min(max(BLOCK_NUMBERS // (2 * shapes.scores + shapes.width), LEAST_ROWS), BLOCK_ROWS)
    block = max(shapes.block_rows or choose_block(rounds, most_rows), min(local.capacity, shapes.width))
    most = max(LANE_SCORES // (local.batch_size * shapes.scores), 1)
    filled = next((fill_blocks(shares[0], block) for shares in rounds if shares), [])
    share = -(-shapes.cohort // devices)
    steps = [-(-rows // local.batch_size) for rows in filled]
    return shapes.client_chunk or choose_lanes(steps, min(most, share)), devices, block


def typical_rounds(shapes: Shapes, devices: int) -> list[list[np.ndarray]]:
    """Rows of the clients that each of the busiest devices trains on coefficients in a round, largest first, the
    busiest device first; of several rounds where cohorts are drawn."""
    rows, rng = np.sort(shapes.client_rows)[::-1], np.random.default_rng(0)
    if shapes.cohort >= len(rows):
        cohorts = [rows]
    else:
        places = (np.sort(rng.choice(len(rows), shapes.cohort, replace=False)) for _ in range(DRAWS))
        cohorts = [rows[chosen] for chosen in places]
    dealt = [deal(np.where(cohort <= shapes.width, cohort, 0), devices) for cohort in cohorts]
    busiest = [shares[np.argsort(-shares.sum(axis=1), kind="stable")[:BUSIEST]] for shares in dealt]
    return [[rows[rows > 0] for rows in shares if rows.any()] for shares in busiest]


def choose_lanes(blocks: list[np.ndarray], most: int) -> int:
    """The most clients side by side that seldom wait for each other; `blocks` are their steps, in descending order."""
    needed = sum(steps.sum() for steps in blocks)
    for lanes in range(most, 1, -1):
        if sum(steps[::lanes].sum() for steps in blocks) * lanes <= IDLE * needed:
            return lanes
    return 1


def choose_block(rounds: list[list[np.ndarray]], most: int) -> int:
    """Rows of a block: at most `most`, and of those sizes the one with the least to do in all blocks, full or not.

    `rounds` are as `typical_rounds` has them; every round takes as long as the device with the most blocks.
    """
    rounds = [shares for shares in rounds if shares]
    if not rounds:
        return 1
    largest, total = (max(int(of(rows)) for shares in rounds for rows in shares) for of in (np.max, np.sum))
    most = max(min(most, total), largest)
    if total > MANY_BLOCKS * most:
        return max(most * 3 // 4, largest)  # about what fewer clients have
    least = max(most // BLOCK_SPAN, largest)
    typical = max(int(np.median(rounds[0][0])), 1)  # clients of one size fill its multiples
    sizes = np.union1d(np.linspace(least, most, TRIES).astype(int), np.arange(most, least - 1, -1) // typical * typical)

    def cost(size: int) -> int:
        blocks = sum(max(len(fill_blocks(rows, size)) for rows in shares) for shares in rounds)
        return blocks * (size + BLOCK_COST)

    return min((int(size) for size in sizes if size >= least), key=cost)


def fill_blocks(rows: np.ndarray, size: int) -> list[np.ndarray]:
    """The clients of each block of `size` rows, none of them cut in two; no client is larger."""
    ends, blocks, done, first = np.cumsum(rows), [], 0, 0
    while first < len(rows):
        after = int(np.searchsorted(ends, done + size, side="right"))
        blocks.append(rows[first:after])
        first, done = after, ends[after - 1]
    return blocks


def check(plan: Plan, federation: Federation, width: int) -> None:
    """Whether the plan can train this, where features have `width` numbers. Raises ValueError: it cannot."""
    if plan.strategy not in STRATEGIES:
        raise ValueError(f"strategy {plan.strategy!r} is none of {', '.join(STRATEGIES)}")
    if plan.client_chunk < 1 or plan.devices < 1:
        raise ValueError(f"client_chunk {plan.client_chunk} and devices {plan.devices} must be 1 or more")
    check_sharing(plan)
    if plan.own_rows and (plan.strategy == "dual" or federation.local.views > 1):
        raise ValueError(f"{plan}: rows cannot lie with their clients in this strategy, or in several versions")
    if plan.strategy == "dual" and not fits_dual(federation):
        raise ValueError(DUAL_NEEDS)
    largest = min(federation.local.capacity, width)
    if plan.strategy == "dual" and plan.block_rows < largest:
        raise ValueError(f"block_rows {plan.block_rows} cannot hold a client of {largest} rows")


def check_sharing(plan: Plan) -> None:
    """Whether the devices of a group can share the classes. Raises ValueError: they cannot."""
    if plan.class_devices > 1 and (plan.strategy == "dual" or plan.classes % plan.class_devices):
        raise ValueError(f"{plan}: {plan.class_devices} devices cannot share {plan.classes} classes in this strategy")


DUAL_NEEDS = (
    "dual needs a linear loss without noise on its steps, and sgd, momentum or nesterov; an aggregation that is a "
    "weighted sum; an algorithm that at most scales an update; transforms that do so by its norm; and clients that all "
    "start from the newest params and do all their steps"
)


def fits_dual(federation: Federation) -> bool:
    """Whether a round is the same on coefficients."""
    local, work, transforms = federation.local, federation.local.work, federation.transforms
    if (
        local.linear is None
        or local.private
        or federation.partial
        or federation.versions
        or local.optimizer not in LINEAR_OPTIMIZERS
        or not federation.aggregation.linear
    ):
        return False
    if local.poison is not None and local.poison.features:
        return False
    scaled = work.sends_change or work.scale
    return bool(scaled and not (work.correct or work.begin or work.keep)) and all(
        transform.factor is not None for transform in transforms
    )
