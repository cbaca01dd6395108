"""A config and its inputs to functions and arrays."""

import contextlib
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cachefl_jax import costs
from cachefl_jax.clock.timetable import Timetable
from cachefl_jax.config import lookup
from cachefl_jax.config.method import METHODS
from cachefl_jax.config.sites import scheduled
from cachefl_jax.data.card import held_cells
from cachefl_jax.errors import UsageError
from cachefl_jax.federation import (
    Clients,
    Federation,
    LocalTraining,
    Plan,
    Problem,
    ServerState,
    init_server,
    make_scores,
    place_by_class,
    traffic,
    unplaced,
)
from cachefl_jax.methods import Method, Rows, find_method
from cachefl_jax.named import users_code
from cachefl_jax.precision import run_precision
from cachefl_jax.simulation import examples
from cachefl_jax.simulation.clock import with_clock
from cachefl_jax.simulation.closed_forms import check_rows
from cachefl_jax.simulation.examples import (
    bank_clients,
    in_order,
    reads_features,
    rows_without_logits,
    tested_rows,
)
from cachefl_jax.simulation.hostile import hostility_of
from cachefl_jax.simulation.keys import member_rows
from cachefl_jax.simulation.own_models import score_own_models
from cachefl_jax.simulation.parts import federation_of, hypers_of
from cachefl_jax.simulation.prepare import Inputs
from cachefl_jax.simulation.scores import RIGHT, OwnRows, Right, own_rows, scores_of
from cachefl_jax.simulation.shared import Shared
from cachefl_jax.storage.run_files import UNSCORED

ONE_DEVICE = Plan()


class NotFinite(UsageError):
    """Training, or a model at round 0, whose numbers did not stay finite."""


class Scorer(NamedTuple):
    """A method ready to be evaluated; its rows lie on the device."""

    scores: Callable  # of `make_scores`
    frozen: object
    test: Rows
    validation: Rows | None
    own: OwnRows  # the test rows that stand for each client
    each_row: bool = False  # whether figures come with `Right`, by the name of `RIGHT`
    sharing: Plan = ONE_DEVICE  # over which devices a model lies, by classes, while it is scored

    def __call__(self, params) -> dict:
        """The figures of a model by their names in summary.json (`scores_of`). Accuracies are NaN where a logit is not
        finite; validation is None where the bank has none."""
        # From the host, so that it does not matter over how many devices they were trained.
        params, frozen = place_by_class(jax.device_get((params, self.frozen)), self.sharing)
        test, *validation = jax.device_get([self.scores(params, frozen, rows) for rows in self.splits])
        found = scores_of(self.own, test, *validation)
        return found | ({RIGHT: Right(test.correct.astype(np.int64), 1, test.predicted)} if self.each_row else {})

    def by_row(self, logits: Callable) -> "Scorer":
        """The same, which also says how many models have each test row right. `logits`: the method's."""
        return self._replace(scores=make_scores(logits, True), each_row=True)

    @property
    def asks_rows(self) -> bool:
        """Whether `Scores.correct` is wanted of each model."""
        return self.own.dealt or self.each_row

    @property
    def splits(self) -> list[Rows]:
        """The test rows, and those for validation where there are any."""
        return [rows for rows in (self.test, self.validation) if rows is not None]


class Learner(NamedTuple):
    """All that the rounds need: functions, then the arrays they take."""

    name: str  # as a config names the method
    method: Method
    federation: Federation
    score: Scorer
    zero_shot: Scorer | None  # None where there are no texts
    params: object  # the server's at round 0
    problem: Problem
    client_rows: np.ndarray  # [C]
    timetable: Timetable | None = None  # where it is known before the run who takes part
    timed: bool = False  # whether its seconds are a clock's, and sites have profiles

    @property
    def local(self) -> LocalTraining:
        """What a client does."""
        return self.federation.local

    @property
    def clients(self) -> int:
        """C."""
        return len(self.client_rows)

    def flops(self) -> float:
        """Floating-point operations of a client's round, the mean over clients."""
        return costs.round_flops(self.local, self.params, self.problem, self.client_rows)

    def scored(self, state: ServerState, plan: Plan = ONE_DEVICE) -> dict:
        """The figures of a federation whose state lies as on the plan's devices: of the server's model, or means over
        the clients' where these have models of their own."""
        if self.local.work.model is None:
            return self.score(state.params)
        return score_own_models(self, unplaced(state, self.clients, plan))

    def traffic(self) -> tuple[int, int]:
        """(up, down) bytes of a client's round."""
        return traffic(self.federation, self.params, self.problem)

    def start(self) -> ServerState:
        """The server before round 1; on the host where no device is to hold all of it."""
        host = jax.local_devices(backend="cpu")[0] if self.score.sharing.class_devices > 1 else None
        with jax.default_device(host) if host else contextlib.nullcontext():
            return init_server(self.federation, self.params, self.problem)


def build(
    config: ConfigDict,
    inputs: Inputs,
    shared: Shared | None = None,
    ordered: bool = False,
    name: str = "",
    clocked: bool = True,
) -> Learner:
    """Chooses the method, optimizers and sizes that the config names. The arrays lie on the host still, those to be
    tested on apart.

    Args:
        config: a run's, or that of a sweep's point.
        inputs: of `prepare`.
        shared: where what was made for another method, or for an earlier config of a sweep, is found.
        ordered: lays the training rows out client after client; else they are as in the bank, which points share.
        name: of the method; "": config.method.
        clocked: whether its rounds may follow a timetable, where the config asks for one.

    Raises UsageError: there is no memory on the host for the rows, or the method asks for what is not there or
    contradicts itself; or as `clock.with_clock`."""
    name, shared = name or config.method, shared or Shared()
    method, texts = find_method(name), inputs.bank.text_features is not None
    with users_code("method", name) if name not in METHODS else contextlib.nullcontext():
        score, params = scorer(config, method, inputs, shared), shared.tree(method.init(inputs.server, config))
    if method.linear and not method.loss and name not in METHODS:
        check_linear(name, method, params, score)
    if method.closed_form:
        check_rows(config, method, inputs.bank.classes, inputs.partition.sizes)
    federation = federation_of(config, method, int(inputs.partition.sizes.max()))
    arrays = problem(config, method, score.frozen, training_data(method, inputs, shared, ordered))
    learner = Learner(
        name=name,
        method=method,
        federation=federation,
        score=score,
        zero_shot=scorer(config, find_method("zero_shot"), inputs, shared) if texts else None,
        params=params,
        problem=arrays._replace(
            hostile=hostility_of(config, inputs.bank.classes, inputs.bank.width),
            root=server_rows(config, method, inputs) if federation.aggregation.root else None,
        ),
        client_rows=inputs.partition.sizes,
    )
    return with_clock(config, learner) if clocked and scheduled(config) else learner


def check_linear(name: str, method: Method, params, score: Scorer) -> None:
    """Refuses a linear view that is none: the method would train by one formula and be evaluated by another.

    Raises UsageError: the params are several arrays, or the view gives other logits at round 0."""
    leaves, rows = jax.tree.leaves(params), jax.tree.map(lambda leaf: leaf[:4], score.test)
    if len(leaves) != 1:
        value = f"{name}, whose params are {len(leaves)} arrays"
        raise UsageError("method", value, "one array where a method has a linear view", "leave Method.linear out")
    with run_precision():
        scores = jnp.tensordot(rows.features, leaves[0], axes=(-1, -1))
        found, expected = method.linear(scores, score.frozen, rows), method.logits(params, score.frozen, rows)
    if not np.allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max(), equal_nan=True):
        allowed = "logits that are the linear view of f W^T"
        raise UsageError("method", f"{name}, whose linear view gives other logits", allowed, "correct one of the two")


def scorer(config: ConfigDict, method: Method, inputs: Inputs, shared: Shared) -> Scorer:
    """The method with what it holds frozen and the rows that it is tested by."""
    rows = (
        shared.once(tested_rows, split, split and pixels_of(method, inputs, role, shared), method.inputs)
        for role, split in (("test", inputs.bank.test), ("validation", inputs.bank.validation))
    )
    frozen = shared.tree(method.freeze(inputs.server, config))
    bank, whose = inputs.bank, config.evaluation.client_rows
    held = shared.once(held_cells, inputs.partition, bank.train.labels, bank.classes)
    sites = sites_of_tests(inputs) if whose == "site" else None
    own = shared.once(own_rows, held, bank.test.labels, config.seed if whose == "dealt" else None, sites)
    if sites is not None:
        own = own._replace(validation=inputs.validation_clients)
    # A finished run may be scored where there are fewer devices than trained it.
    sharing = Plan(class_devices=math.gcd(config.engine.class_devices, jax.device_count()), classes=bank.classes)
    return Scorer(make_scores(method.logits, own.dealt), frozen, *rows, own, sharing=sharing)


def sites_of_tests(inputs: Inputs) -> np.ndarray:
    """[n] the client that each test row came from. Raises UsageError: nobody knows."""
    if inputs.test_clients is None:
        allowed = "reweighted | dealt: no test image says which site it came from, or sites are no clients"
        mend = "choose one of these, or bring folders of sites with data.group_column=folder, partition.name=natural"
        raise UsageError("evaluation.client_rows", "site", allowed, mend)
    return inputs.test_clients


def pixels_of(method: Method, inputs: Inputs, role: str, shared: Shared) -> np.ndarray | None:
    """A split's images as the encoder takes them, [n, H, W, 3] uint8; None for a method that reads none.

    Raises UsageError: the run has features alone, or there is no memory for the images."""
    if "images" not in method.inputs:
        return None
    if inputs.pixels is None:
        allowed = "a method that reads features: a feature bank has no images"
        raise UsageError(
            "method", f"{method.label}, which reads images", allowed, "bring images: data.name=image_folder"
        )
    return shared.array(shared.once(inputs.pixels, role))


def training_data(method: Method, inputs: Inputs, shared: Shared, ordered: bool) -> tuple[Clients, Rows]:
    """Who holds what, and the rows. Raises UsageError: there is no memory for them."""
    bank, server, places = inputs.bank, inputs.server, None
    clients = shared.once(bank_clients, inputs.partition, len(bank.train_views) if bank.train_views is not None else 1)
    images, wanted = pixels_of(method, inputs, "train", shared), reads_features(method.inputs)
    rows = shared.once(rows_without_logits, bank.train, bank.train_views, images, wanted)
    data = rows
    if ordered:
        places = shared.once(np.argsort, clients.indices)
        clients, data = shared.once(in_order, clients, rows)
    if "text_logits" in method.inputs:
        logits = shared.once(examples.text_logits_of, rows.features, server.text, server.logit_scale, places)
        data = data._replace(text_logits=logits)
    return clients, data


def server_rows(config: ConfigDict, method: Method, inputs: Inputs) -> Rows:
    """The server's images as rows to train on, for an aggregation that asks for its own update: those that no key is
    made of, where every class has some, for a key lies on itself and teaches next to nothing; else the others.

    Raises UsageError: the method reads images, of which the server keeps features alone."""
    if "images" in method.inputs:
        allowed = f"one without rows of the server's own with {method.label}, which reads images"
        raise UsageError("aggregation.name", config.aggregation.name, allowed, "aggregation.name=geometric_median")
    drawn, classes = inputs.bank.synthetic, inputs.bank.classes
    keys = member_rows(inputs.members)
    rest = np.setdiff1d(np.arange(len(drawn.labels)), keys)
    rows = rest if len(np.unique(drawn.labels[rest])) == classes else keys
    return Rows(drawn.labels[rows].astype(np.int32), np.ascontiguousarray(drawn.features[rows], np.float32))


def problem(config: ConfigDict, method: Method, frozen, held: tuple[Clients, Rows]) -> Problem:
    """The federation's arrays. Raises UsageError: as `hypers_of`."""
    clients, server, parts = hypers_of(config, method.closed_form is not None)
    return Problem(*held, frozen, clients, server, jax.random.key(config.seed), part_hyper=parts)


def scores_at_round_0(config: ConfigDict, learner: Learner) -> dict:
    """The figures of the method as the server sends it. Raises NotFinite: its logits are too large for float32."""
    name, value, mend = "method", learner.name, "correct its init"
    if fields := number_fields(learner.method):
        name, value, mend = fields[0], lookup(config, fields[0]), " and ".join(["bring it nearer to 0", *fields[1:]])
    refusal = NotFinite(name, value, "one at which round 0's logits are finite", mend)
    return finite(learner.score(learner.params), refusal)


def diverged(config: ConfigDict, learner: Learner, what: str) -> NotFinite:
    """The refusal of training that has not stayed finite: its accuracy would be that of a guess."""
    if learner.method.closed_form:
        mend = " or ".join(["leave updates.transforms out", *number_fields(learner.method)])
        return NotFinite("method", learner.name, f"sums from which it can be solved (those of {what} have none)", mend)
    allowed = f"a rate at which training stays finite ({what} did not)"
    mend = " or ".join(["lower it", *number_fields(learner.method)])
    return NotFinite("local.learning_rate", config.local.learning_rate, allowed, f"{mend}, in a new folder")


def number_fields(method: Method) -> list[str]:
    """The method's own config fields that are numbers."""
    return [field.name for field in method.fields if isinstance(field.default, float)]


def finite(scores: dict, refusal: NotFinite) -> dict:
    """What a `Scorer` gives, where every logit was a number. Raises NotFinite: the refusal; some were not."""
    if any(math.isnan(scores[name] or 0) for name in UNSCORED):
        raise refusal
    return scores
