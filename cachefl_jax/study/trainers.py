"""How a study trains a row's points: many as one program where a sweep's programs can, else one after another."""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.config import Row
from cachefl_jax.data import everything
from cachefl_jax.federation import Federation, ServerHyper, by_itself
from cachefl_jax.methods.zero_shot import zero_shot
from cachefl_jax.simulation.build import Learner, NotFinite, build, problem, training_data
from cachefl_jax.simulation.contenders import Contender, check_regimes
from cachefl_jax.simulation.entries import TRAFFIC, result, told_of
from cachefl_jax.simulation.features_once import pooled, traffic_once
from cachefl_jax.simulation.parts import local_training
from cachefl_jax.simulation.prepare import Inputs
from cachefl_jax.simulation.regimes import Run, compare, untrained
from cachefl_jax.simulation.scores import RIGHT, Right
from cachefl_jax.simulation.shared import Shared
from cachefl_jax.simulation.sweep_groups import Group, Prepared, Way, run_group, with_points
from cachefl_jax.simulation.sweep_points import done_of
from cachefl_jax.simulation.workdir import Workdir
from cachefl_jax.storage.run_files import UNSCORED

ONE_PLACE = ("centralized", "features_once")  # regimes in which one place has all that is trained on
SWEPT = ("federated", *ONE_PLACE)
WAY = Way(each_row=True, a_call=1)  # one point a device and call: what is chosen goes through the program of the search


class Trained(NamedTuple):
    """What a training came to."""

    number: int  # of the point
    entry: dict  # as in summary.json
    diverged: bool = False
    right: Right | None = None  # of each test row, how many models have it right; None where there is no accuracy


def learner_of(config: ConfigDict, row: Row, inputs: Inputs, shared: Shared) -> Learner:
    """The learner of a row's rounds. Raises UsageError: as `build`, or the row's regime is nothing for the method."""
    ordered, clocked = row.regime not in SWEPT, row.regime in ("federated", "fine_tuned")
    learner = build(config, inputs, shared, ordered, row.method, clocked)
    check_regimes([row], learner)
    return at_one_place(config, row, inputs, learner, shared) if row.regime in ONE_PLACE else learner


def is_swept(row: Row, learner: Learner) -> bool:
    """Whether points of a row train by the sweep's programs, which score the one model that a server ends in."""
    return row.regime in SWEPT and learner.local.work.model is None


def at_one_place(config: ConfigDict, row: Row, inputs: Inputs, learner: Learner, shared: Shared) -> Learner:
    """The learner of a federation of one client, which holds everybody's rows, or what all sites have sent."""
    held = inputs._replace(partition=everything(len(inputs.bank.train.labels)))
    if row.regime == "features_once":
        held = shared.inputs(pooled(config, inputs, learner.method))
    local = local_training(config, learner.method, len(held.bank.train.labels))
    federation = Federation(local._replace(work=by_itself(local.work)))
    if learner.method.closed_form is not None:
        federation = federation._replace(aggregation=learner.federation.aggregation)
    arrays = problem(
        config, learner.method, learner.score.frozen, training_data(learner.method, held, shared, ordered=False)
    )
    arrays = arrays._replace(server=server_of_one())
    return learner._replace(federation=federation, problem=arrays, client_rows=held.partition.sizes)


def server_of_one() -> ServerHyper:
    """The numbers of a server that takes the one client's params."""
    return jax.tree.map(np.float32, ServerHyper())


class Trainer:
    """Trains a row's points. More may come after some were trained, and go through the same programs."""

    def __init__(self, row: Row):
        self.row, self.points, self.swept = row, {}, None

    def add(self, points: list[Prepared]) -> None:
        """More points, each with a number of its own."""
        self.points |= {point.number: point for point in points}

    def train(self, numbers: list[int]) -> Iterator[Trained]:
        """What each of these came to, as soon as it is known.

        Raises UsageError: a program would not fit into memory."""
        points = list(self.points.values())
        if all(is_swept(self.row, point.learner) and point.config.rounds for point in points):
            self.swept = self.swept or Swept(self.row)
            return self.swept.train(points, numbers)
        how = untrained_point if self.row.regime in ("zero_shot", "round_0") else single_point
        return (how(self.row, self.points[number]) for number in numbers)


class Swept:
    """Points that train as one program for each shape."""

    def __init__(self, row: Row):
        self.row, self.groups = row, []

    def train(self, points: list[Prepared], numbers: list[int]) -> Iterator[Trained]:
        """Those of these numbers, of all points that there are by now."""
        known = {point.number for group in self.groups for point in group.points}
        self.groups = with_points(self.groups, [point for point in points if point.number not in known], WAY)
        for group in self.groups:
            yield from self.of(group, [at for at, point in enumerate(group.points) if point.number in numbers])

    def of(self, group: Group, chosen: list[int]) -> Iterator[Trained]:
        """These of a group's points."""
        for batch, outcome, seconds in run_group(group, chosen):
            for at, point in enumerate(batch):
                own = jax.tree.map(lambda leaf, at=at: leaf[at], outcome)
                done = done_of(point, self.row, own, seconds / len(batch), {})
                right = None if done.diverged else Right(own.scores[0].correct[-1], 1, own.scores[0].predicted[-1])
                yield Trained(point.number, done.entry | once_sent(self.row, point), done.diverged, right)


def once_sent(row: Row, point: Prepared) -> dict:
    """What an entry says otherwise where no rounds of server and clients happened: bytes, and a client's work."""
    if row.regime == "centralized":
        return dict.fromkeys(TRAFFIC)
    if row.regime == "features_once":
        traffic = traffic_once(point.config, point.inputs, point.learner.params)
        return dict(zip(TRAFFIC, traffic, strict=True)) | {"client_flops_per_round": 0.0}
    return {}


def untrained_point(row: Row, point: Prepared) -> Trained:
    """A row without rounds, scored by the model that is sent, or by CLIP's texts."""
    try:
        entry = untrained(point.config, telling_rows(point.learner), row)
    except NotFinite:
        return without_figures(row, point)
    return Trained(point.number, entry, False, entry.pop(RIGHT, None))


def single_point(row: Row, point: Prepared) -> Trained:
    """A row whose points train one after another, as a run would train them."""
    rounds = [row._replace(name=row.method, regime="federated")] if row.regime == "fine_tuned" else []
    contender = Contender(point.config, row.method, [*rounds, row], telling_rows(point.learner))
    try:
        entries, _ = compare(Run(point.config, point.inputs, Workdir(None)), [contender], [])
    except NotFinite:
        return without_figures(row, point)
    entry = entries[row.name]
    return Trained(point.number, entry, False, entry.pop(RIGHT))


def without_figures(row: Row, point: Prepared) -> Trained:
    """A point that did not stay finite: what it would have sent is not counted."""
    return Trained(point.number, result(UNSCORED | told_of(row, point.learner.method), (None, None, None)), True)


def telling_rows(learner: Learner) -> Learner:
    """The learner, whose figures tell of each test row how many models have it right."""
    zero = learner.zero_shot and learner.zero_shot.by_row(zero_shot.logits)
    return learner._replace(score=learner.score.by_row(learner.method.logits), zero_shot=zero)
