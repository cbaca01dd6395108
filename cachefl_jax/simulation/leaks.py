"""What a server reads from the updates of a finished run's clients: one more round on clients of a few rows each.

The round is the run's own, federation, transforms and secure sums included, as `build` makes it of a config. Each
attacked client holds some rows of one site; its update is what the server gets, before any noise that the server
adds itself.
"""

from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.config import Row, changed, validate
from cachefl_jax.config.secure import SECURE
from cachefl_jax.data import Partition
from cachefl_jax.errors import UsageError
from cachefl_jax.federation import Clients, everybody, init_server
from cachefl_jax.federation.seen import seeing_aggregate, seeing_updates
from cachefl_jax.privacy.audit.closeness import closeness, figure, named_share
from cachefl_jax.privacy.audit.inversion import Known, gradient_of, invert
from cachefl_jax.privacy.audit.labels import infer_counts, labels_of, same_classes, wrong_share
from cachefl_jax.privacy.audit.part import Context
from cachefl_jax.simulation.build import Learner, build
from cachefl_jax.simulation.contenders import config_of
from cachefl_jax.simulation.shared import Shared

NO_DEFENCE = {
    "updates.transforms": (), "updates.error_feedback": False, "downloads.transforms": (), "hostile.kind": "none",
    "privacy.mechanism": "none", "aggregation.name": "mean", "cohort": 0, "participation.name": "cohort",
    "overrides": (),
}  # fmt: skip


class Case(NamedTuple):
    """A way in which updates are made, and how many of them the server sees at once."""

    label: str
    rows: int  # of an attacked client
    changes: dict = {}  # of the run's config without its own defences  # noqa: RUF012
    method: str = ""  # "": the run's
    summed: int = 1  # clients of a sum
    trained: bool = False  # from the run's last params; else from round 0's
    own: bool = False  # with the run's own defences


class Taken(NamedTuple):
    """What one case gives."""

    rows: np.ndarray  # [V, B] of the bank, B those of all clients of a sum
    counts: np.ndarray  # [V, N] rows a class, as inferred
    true_counts: np.ndarray  # [V, N]
    features: np.ndarray  # [V, B, D]


def attacked(partition: Partition, count: int, rows: int, seed: int) -> np.ndarray:
    """`count` clients of `rows` rows each, all of one site, site after site; [V, B] rows of the bank.

    Raises UsageError: no site has so many rows."""
    sites = np.flatnonzero(partition.sizes >= rows)
    if not len(sites):
        allowed = f"few enough that some site has {rows} rows; the largest has {partition.sizes.max()}"
        raise UsageError("partition.clients", partition.clients, allowed, "fewer clients")
    rng = np.random.default_rng([seed, rows])
    order = np.resize(rng.permutation(sites), count)
    held = (partition.indices[partition.offsets[site] : partition.offsets[site + 1]] for site in order)
    return np.stack([rng.choice(own, rows, replace=False) for own in held]).astype(np.int32)


class Laboratory:
    """A finished run's rounds, to be had with other settings.

    Args:
        context: of the run.
        count: attacked clients, or sums of these, of each case.
    """

    def __init__(self, context: Context, count: int):
        self.context, self.count, self.shared = context, count, Shared()
        bank, synthetic = context.inputs.bank, context.inputs.server.synthetic
        self.features, self.labels, self.classes = bank.train.features, bank.train.labels, bank.classes
        means = synthetic.mean(axis=1)
        self.means = means / np.linalg.norm(means, axis=1, keepdims=True)

    def config(self, case: Case) -> ConfigDict:
        """The case's. Raises UsageError: its settings do not go together, or a package is missing."""
        config, method = self.context.config, case.method or self.context.config.method
        if case.own:
            return config
        if case.method:
            config = config_of(config, Row(method, method, "federated"))
        config = changed(config, NO_DEFENCE | {"method": method, "compare": (method,)} | case.changes)
        validate(config)
        return config

    def learner(self, case: Case) -> tuple[ConfigDict, Learner]:
        """The case's config, and what it trains.

        Raises UsageError: as `config`, or its params do not meet features class by class."""
        config = self.config(case)
        learner = build(config, self.context.inputs, self.shared)
        leaves, work = jax.tree.leaves(learner.params), learner.local.work
        if learner.local.linear is None or leaves[0].shape[0] != self.classes or not work.sends_change:
            allowed = "a method whose params meet the features class by class, trained by fedavg"
            raise UsageError("method", f"{learner.method.label} by {config.local.algorithm}", allowed, "audit others")
        return config, learner

    def take(self, case: Case) -> Taken:
        """Attacks the case. Raises UsageError: as `learner` and `attacked`."""
        config, learner = self.learner(case)
        params = learner.params if case.method or not case.trained else self.context.state.params
        rows = attacked(self.context.inputs.partition, self.count * case.summed, case.rows, self.context.settings.seed)
        updates = received(learner, params, rows, case.summed)
        known = Known(learner.local, learner.problem.hyper, learner.problem.frozen, jax.tree.leaves(params)[0],
                      self.means)  # fmt: skip
        blocks = gradient_of(known, updates, steps_of(config, case.rows))
        rows = rows.reshape(self.count, -1)
        counts = infer_counts(blocks, self.means, rows.shape[1])
        true = np.stack([np.bincount(self.labels[own], minlength=self.classes) for own in rows])
        given = filled(labels_of(counts), rows.shape[1])
        return Taken(rows, counts, true, invert(known, blocks, given, self.context.settings.seed))

    def figures(self, taken: Taken) -> dict:
        """|cos| of the features found to the true ones, the share of rows that they name among all clients' rows, the
        share of rows whose class was not named, and how often all classes were and no others. By chance: the same for
        another client's update; and what the server's own means of the true classes come to."""
        confidence, true, features = self.context.settings.confidence, self.features[taken.rows], self.features
        guess, other = self.means[self.labels[taken.rows]], np.roll(taken.features, 1, axis=0)
        others = np.roll(taken.counts, 1, axis=0)
        measured = {
            "cosine": closeness(taken.features, true),
            "named_rows": named_share(taken.features, taken.rows, features),
            "exact_classes": same_classes(taken.counts, taken.true_counts),
            "wrong_labels": wrong_share(taken.counts, taken.true_counts),
        }
        by_chance = {
            "cosine_by_chance": closeness(other, true),
            "named_rows_by_chance": named_share(other, taken.rows, features),
            "wrong_labels_by_chance": wrong_share(others, taken.true_counts),
            "cosine_of_class_means": closeness(guess, true),
        }
        means = {name: float(values.mean()) for name, values in by_chance.items()}
        return {name: figure(values, confidence)._asdict() for name, values in measured.items()} | means


def received(learner: Learner, params, rows: np.ndarray, summed: int) -> np.ndarray:
    """What the server gets of clients with these rows, [V, *J, D]: each client's update or, where it sees `summed`
    together, the aggregate of these. A client has kept nothing from earlier rounds."""
    federation = learner.federation._replace(cohort=0, downloads=(), local=learner.local._replace(views=1), versions=0)
    look = (seeing_aggregate if summed > 1 else seeing_updates)(federation)
    groups, seen = rows.reshape(-1, summed, rows.shape[1]) if summed > 1 else rows[None], []
    for group in groups:
        offsets = np.arange(len(group) + 1, dtype=np.int32) * rows.shape[1]
        problem = learner.problem._replace(clients=Clients(offsets, group.reshape(-1)), hostile=())
        state = init_server(federation, params, problem)
        seen.append(np.asarray(jax.tree.leaves(look(state, everybody(len(group)), problem))[0]))
    return np.stack(seen) if summed > 1 else seen[0]


def steps_of(config: ConfigDict, rows: int) -> int:
    """Of a client with so many rows."""
    return config.local.epochs * -(-rows // (config.local.batch_size or rows))


def filled(labels: np.ndarray, rows: int) -> np.ndarray:
    """Labels [V, B], -1 for rows of which nothing is known."""
    return np.pad(labels, ((0, 0), (0, rows - labels.shape[1])), constant_values=-1)


def defended(config: ConfigDict) -> bool:
    """Whether the run's own updates reach the server otherwise than as they were trained."""
    return bool(config.updates.transforms) or config.privacy.mechanism != "none" or config.aggregation.name in SECURE


def clients_seen(config: ConfigDict) -> int:
    """How many clients' updates the run's own server gets as one."""
    return (config.cohort or config.partition.clients) if config.aggregation.name in SECURE else 1
