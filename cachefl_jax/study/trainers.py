"""How a study trains a row's points: many as one program where a sweep's programs can, else one after another."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.config import Row
from cachefl_jax.errors import UsageError
from cachefl_jax.federation import Clients, Federation, ServerHyper, fedavg, make_scores, participation, repeat_views
from cachefl_jax.methods.zero_shot import zero_shot
from cachefl_jax.simulation.build import Learner, build
from cachefl_jax.simulation.contenders import Contender
from cachefl_jax.simulation.parts import local_training
from cachefl_jax.simulation.prepare import Inputs
from cachefl_jax.simulation.regimes import Run, compare, result, told_of, untrained
from cachefl_jax.simulation.shared import Shared
from cachefl_jax.simulation.sweep_groups import Group, Prepared, Way, make_groups, run_group
from cachefl_jax.simulation.sweep_points import done_of
from cachefl_jax.simulation.workdir import Workdir
from cachefl_jax.storage.run_files import UNSCORED

WAY = Way(each_row=True, a_call=1)  # one point a device and call: what is chosen goes through the program of the search


class Trained(NamedTuple):
    """What a training came to."""

    number: int  # of the point
    entry: dict  # as in summary.json
    diverged: bool = False
    correct: np.ndarray | None = None  # [n] bool, which test rows are right; None where several models are scored


def learner_of(config: ConfigDict, row: Row, inputs: Inputs, shared: Shared) -> Learner:
    """The learner of a row's rounds. Raises UsageError: as `build`."""
    learner = build(config, inputs, shared, name=row.method, ordered=not is_swept(row, None))
    return pooled(config, inputs, learner) if row.regime == "centralized" else learner


def is_swept(row: Row, learner: Learner | None) -> bool:
    """Whether points of a row train by the sweep's programs, which score the one model that a server ends in."""
    if row.regime not in ("federated", "centralized"):
        return False
    return learner is None or learner.method.personal is None


def pooled(config: ConfigDict, inputs: Inputs, learner: Learner) -> Learner:
    """The learner of a federation of one client, which holds everybody's rows: centralised training."""
    count = len(inputs.bank.train.labels)
    everybody = Clients(np.asarray([0, count], np.int32), np.arange(count, dtype=np.int32))
    local = local_training(config, learner.method, count)
    federation = Federation(local._replace(work=fedavg))
    if learner.method.closed_form is not None:  # whose server does not step, but solves
        federation = learner.federation._replace(local=local, cohort=0, participation=participation.full, transforms=())
    problem = learner.problem._replace(clients=repeat_views(everybody, local.views))
    if learner.method.closed_form is None:
        problem = problem._replace(server=server_of_one())
    return learner._replace(federation=federation, problem=problem, client_rows=np.asarray([count]))


def server_of_one() -> ServerHyper:
    """The numbers of a server that takes the one client's params."""
    return jax.tree.map(np.float32, ServerHyper())


def trainer_of(row: Row, points: list[Prepared]) -> Callable[[list[int]], Iterator[Trained]]:
    """(places in `points`) -> what each of these came to, as soon as it is known.

    Raises UsageError: a program would not fit into memory."""
    if all(is_swept(row, point.learner) and point.config.rounds for point in points):
        return Swept(row, points)
    how = untrained_point if row.regime in ("zero_shot", "round_0") else single_point
    return lambda places: (how(row, points[place]) for place in places)


class Swept:
    """Points that train as one program for each shape."""

    def __init__(self, row: Row, points: list[Prepared]):
        self.row, self.groups = row, make_groups(points, WAY)

    def __call__(self, places: list[int]) -> Iterator[Trained]:
        wanted = set(places)
        for group in self.groups:
            yield from self.of(group, [at for at, point in enumerate(group.points) if point.number in wanted])

    def of(self, group: Group, chosen: list[int]) -> Iterator[Trained]:
        """These of a group's points."""
        for batch, outcome, seconds in run_group(group, chosen):
            for at, point in enumerate(batch):
                own = jax.tree.map(lambda leaf, at=at: leaf[at], outcome)
                done = done_of(point, self.row, own, seconds / len(batch), {})
                correct = None if done.diverged else own.scores[0].correct[-1]
                entry = done.entry | (not_counted() if self.row.regime == "centralized" else {})
                yield Trained(point.number, entry, done.diverged, correct)


def not_counted() -> dict[str, None]:
    """The bytes of an entry of which nothing federated is known."""
    entry = result({}, (None, None, None))
    return {name: entry[name] for name in entry if name.endswith(("bytes_per_client_round", "total_bytes"))}


def untrained_point(row: Row, point: Prepared) -> Trained:
    """A row without rounds. Its test rows are right or wrong by the model that is sent, or by CLIP's texts."""
    learner = point.learner
    params, score = (learner.params, learner.score) if row.regime == "round_0" else ((), learner.zero_shot)
    if score is None:
        return Trained(point.number, result(UNSCORED | told_of(row, zero_shot)))
    try:
        entry = untrained(point.config, learner, row)
    except UsageError:  # its logits are no numbers
        return Trained(point.number, result(UNSCORED | told_of(row, learner.method)), True)
    logits = learner.method.logits if row.regime == "round_0" else zero_shot.logits
    scores = jax.device_get(make_scores(logits, True)(params, score.frozen, score.test))
    return Trained(point.number, entry, False, scores.correct)


def single_point(row: Row, point: Prepared) -> Trained:
    """A row whose points train one after another, as a run would train them."""
    contender = Contender(point.config, row.method, [row], point.learner)
    try:
        entries, _ = compare(Run(point.config, point.inputs, Workdir(None)), [contender], [])
    except UsageError as error:
        if error.field != "local.learning_rate":  # of training that did not stay finite
            raise
        return Trained(point.number, result(UNSCORED | told_of(row, point.learner.method)), True)
    return Trained(point.number, entries[row.name])
