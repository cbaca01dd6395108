"""A sweep's points in groups, one compiled program a group: compiled and held against memory before anything runs."""

import hashlib
import json
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.config import lookup
from cachefl_jax.config.components import own_fields
from cachefl_jax.config.compression import COMPRESSION
from cachefl_jax.config.secure import SECURE_SUMS
from cachefl_jax.errors import UsageError
from cachefl_jax.federation import Outcome, Plan, Point, make_sweep, place, score_models, score_rows, tree_bytes
from cachefl_jax.federation.memory import free
from cachefl_jax.federation.sweep import alike, same, stack
from cachefl_jax.report.units import readable_bytes
from cachefl_jax.simulation.build import Learner
from cachefl_jax.simulation.parts import client_optimizer, server_optimizer
from cachefl_jax.simulation.plans import plans_of
from cachefl_jax.simulation.prepare import Inputs

BATCH_BYTES = 2**28  # of params that one call gives back
BATCH_POINTS = 8  # a device and call: the progress bar moves and a kill loses no more


class Prepared(NamedTuple):
    """A point before it runs."""

    number: int
    config: ConfigDict
    inputs: Inputs
    learner: Learner


class Way(NamedTuple):
    """How points run."""

    side_by_side: bool = False  # vmap those of a device rather than one after another
    each_row: bool = False  # tells of every test row whether it is right
    a_call: int = 0  # points of a device in one call; 0: chosen


class Group(NamedTuple):
    """Points that share a program, which is compiled."""

    kind: str  # what `group_of` says of each point
    points: list[Prepared]
    plan: Plan  # how each point's rounds run, on one device
    leaves: list[Point]  # of each point
    common: list[bool]  # which leaves all points share
    devices: int  # to which the points are dealt
    batch: int  # points a call
    run: jax.stages.Compiled


def kinds_of(points: Iterable[Prepared]) -> dict[str, list[Prepared]]:
    """The points by what `group_of` says of them: each list is one program."""
    kinds = {}
    for point in points:
        kinds.setdefault(group_of(point), []).append(point)
    return kinds


def with_points(groups: list[Group], points: list[Prepared], way: Way) -> list[Group]:
    """These groups with more points, in programs that are compiled already where they fit, else in new ones.

    Raises UsageError: a group would not fit into memory."""
    groups, others = list(groups), []
    for point in points:
        kind = group_of(point)
        for at, group in enumerate(groups):
            if group.kind == kind and fits_group(group, point):
                leaves = [*group.leaves, leaves_of(point)]
                groups[at] = group._replace(points=[*group.points, point], leaves=leaves)
                break
        else:
            others.append(point)
    return [*groups, *(make_group(kind, alike, way) for kind, alike in kinds_of(others).items())]


def fits_group(group: Group, point: Prepared) -> bool:
    """Whether the group's program, which has what all its points share compiled as one, runs this alike point too."""
    if evaluations(group.points[0]) < evaluations(point):
        return False
    if max(each.learner.local.capacity for each in group.points) < point.learner.local.capacity:
        return False
    if plan_of([point]).block_rows > group.plan.block_rows:
        return False
    pairs = zip(jax.tree.leaves(group.leaves[0]), jax.tree.leaves(leaves_of(point)), group.common, strict=True)
    return all(same(one, other) for one, other, common in pairs if common)


def rounds_between(point: Prepared) -> int:
    """After so many rounds it is scored."""
    return min(point.config.eval_every, max(point.config.rounds, 1))


def evaluations(point: Prepared) -> int:
    return max(math.ceil(point.config.rounds / rounds_between(point)), 1)


def leaves_of(point: Prepared) -> Point:
    rounds = np.int32(point.config.rounds), np.int32(rounds_between(point))
    return Point(point.learner.params, point.learner.problem, *rounds)


def group_of(point: Prepared) -> str:
    """What points of one program have in common: shapes, and choices that are not numbers."""
    config, learner = point.config, point.learner
    leaves, structure = jax.tree.flatten((learner.params, learner.problem))
    shapes = [hash(structure), *((leaf.shape, str(leaf.dtype)) for leaf in leaves)]
    local = learner.local
    choices = [
        client_optimizer(config), server_optimizer(config), learner.name, config.cohort, config.engine.to_dict(),
        config.local.algorithm, config.participation.name, config.updates.transforms, config.aggregation.name,
        config.hostile.kind, learner.federation.partial, learner.federation.versions, learner.federation.cohort,
        config.privacy.mechanism, config.privacy.quantile > 0, config.privacy.bands,
        *(lookup(config, field.name) for field in COMPRESSION.fields if not field.traced),
        local.epochs, local.batch_size, local.shuffle, local.proximal, local.clip, local.views,
        learner.score.own.dealt,
        *(lookup(config, field.name) for field in (*own_fields(config), *SECURE_SUMS.fields) if not field.traced),
    ]  # fmt: skip
    tested = [id(leaf) for leaf in jax.tree.leaves(learner.score.splits)]  # `Shared` makes equal ones one
    return json.dumps([shapes, choices, tested])


def make_group(kind: str, points: list[Prepared], way: Way) -> Group:
    """Compiles the program of points that `group_of` says are alike. Raises UsageError: it would not fit."""
    first, plan = points[0], plan_of(points)
    devices = min(first.config.engine.devices or jax.device_count(), len(points))
    most = min(BATCH_POINTS, BATCH_BYTES // tree_bytes(first.learner.params), math.ceil(len(points) / devices))
    most = way.a_call or most
    logits, each_row = first.learner.method.logits, first.learner.score.own.dealt or way.each_row

    model = first.learner.local.work.model

    def evaluate(state, problem, data):
        if model is not None:
            return score_models(logits, each_row, model, state.params, state.clients[0])(problem.frozen, data)
        return [score_rows(logits, each_row, state.params, problem.frozen, rows) for rows in data]

    local = first.learner.local
    largest = local._replace(capacity=max(point.learner.local.capacity for point in points))
    sweep = make_sweep(
        first.learner.federation._replace(local=largest), plan, evaluate, max(map(evaluations, points)),
        side_by_side=way.side_by_side, devices=devices,
    )  # fmt: skip
    leaves = [leaves_of(point) for point in points]
    group = Group(kind, points, plan, leaves, alike(leaves), devices, max(most, 1) * devices, None)
    arguments = jax.eval_shape(lambda *one: one, *stacked(group, leaves), first.learner.score.splits)
    group = group._replace(run=sweep.lower(*arguments).compile())
    check_memory(group, tree_bytes(arguments[1:]), way.side_by_side)
    return group


def plan_of(group: list[Prepared]) -> Plan:
    """How each point's rounds run: on one device, since the points themselves are dealt to the devices.

    Raises UsageError: that is none, or as `plans_of`."""
    plans = []
    for point in group:
        config = point.config.copy_and_resolve_references()
        if (share := config.engine.class_devices) > 1:
            allowed = "1 in a sweep, each of whose points has one device for itself"
            raise UsageError("engine.class_devices", share, allowed, "leave it out, or run the points one by one")
        config.engine.devices = 1
        plans.append(plans_of(config, point.learner)[0])
    # Blocks that hold the largest client of any point.
    return plans[0]._replace(block_rows=max(plan.block_rows for plan in plans))


def stacked(group: Group, leaves: list[Point]) -> tuple[Point, Point]:
    """The first points of these, as `stack` has them; filled up with the last one, so that all are the same program."""
    return stack([leaves[min(at, len(leaves) - 1)] for at in range(group.batch)], group.common)


def check_memory(group: Group, shared: int, side_by_side: bool) -> None:
    """Holds what the program needs against what there is. A CPU's devices read one copy of the `shared` bytes.

    Raises UsageError: it would not fit."""
    analysis, there = group.run.memory_analysis(), free()
    own = analysis.argument_size_in_bytes - shared + analysis.output_size_in_bytes + analysis.temp_size_in_bytes
    wanted = shared + own * (group.devices if jax.default_backend() == "cpu" else 1)
    if there is None or wanted <= there:
        return
    value = (
        f"{group.batch} points at a time on {group.devices} devices, which need {readable_bytes(wanted)} "
        f"(shared {readable_bytes(shared)}, their own {readable_bytes(own)} on a device)"
    )
    field = "--side_by_side" if side_by_side else "engine.devices"
    mend = "leave it out, or engine.devices=1" if side_by_side else "engine.devices=1; fewer keys or classes"
    raise UsageError(field, value, f"what fits into the {readable_bytes(there)} that are free", mend)


def run_group(group: Group, chosen: Sequence[int] | None = None) -> Iterator[tuple[list[Prepared], Outcome, float]]:
    """Yields (points, their outcome on the host, seconds) batch by batch; of all points, or of those whose places in
    the group are `chosen`."""
    places = range(len(group.points)) if chosen is None else chosen
    shared = stacked(group, group.leaves)[1], group.points[0].learner.score.splits
    common = place(shared, Plan(devices=group.devices))
    for begin in range(0, len(places), group.batch):
        batch = places[begin : begin + group.batch]
        varying, _ = stacked(group, [group.leaves[number] for number in batch])
        began = time.perf_counter()
        outcome = jax.device_get(group.run(varying, *common))
        yield [group.points[number] for number in batch], outcome, time.perf_counter() - began


def digest(params) -> str:
    """SHA-256 of the params' bytes, leaf after leaf."""
    return hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(params))).hexdigest()
