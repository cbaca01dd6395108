"""Hostile clients as a config asks for them: the parts of a round, their numbers, and what they make of their rows."""

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.config.hostile import strength_of
from cachefl_jax.errors import UsageError
from cachefl_jax.federation import Federation, Hostility, Poison, figures, under_attack
from cachefl_jax.federation.hostile import BY_ITSELF, TOGETHER
from cachefl_jax.methods import Method, Rows
from cachefl_jax.storage.run_files import BACKDOOR

if TYPE_CHECKING:
    from cachefl_jax.simulation.build import Learner


def flipped(rows: Rows, told: Hostility, hostile) -> Rows:
    """Class y becomes N - 1 - y (Fang et al., arXiv 1911.11815). `hostile`: [] or of each row."""
    return rows._replace(labels=jnp.where(hostile, told.classes - 1 - rows.labels, rows.labels))


def triggered(features, told: Hostility):
    """Unit features [n, D] moved along the trigger by its strength, and of length 1 again."""
    moved = features + told.strength * told.trigger[None]
    return moved / jnp.linalg.norm(moved, axis=1, keepdims=True)


def with_backdoor(rows: Rows, told: Hostility, hostile) -> Rows:
    """Every second row of a batch has the trigger and the target's label; text logits follow from the features anew."""
    marked = hostile & (jnp.arange(len(rows.labels)) % 2 == 0)
    features = jnp.where(marked[:, None], triggered(rows.features, told), rows.features)
    return Rows(jnp.where(marked, told.target, rows.labels), features)


POISONS = {"label_flip": Poison(flipped), "backdoor": Poison(with_backdoor, features=True)}


def with_hostile(config: ConfigDict, method: Method, federation: Federation) -> Federation:
    """The federation with hostile clients; all its other parts are there. Raises UsageError: the attack makes no sense
    of this method."""
    kind = config.hostile.kind
    if method.closed_form is not None and kind not in POISONS:
        allowed = f"none, label_flip or backdoor with {method.label}, whose clients count and send no change"
        raise UsageError("hostile.kind", kind, allowed, "choose one of these, or drop the method from compare")
    if kind == "backdoor" and "images" in method.inputs:
        allowed = f"any but backdoor, whose trigger lies in features, with {method.label}, which reads images"
        raise UsageError("hostile.kind", kind, allowed, "choose another, or drop the method from compare")
    if kind in POISONS:
        return federation._replace(local=federation.local._replace(poison=POISONS[kind]))
    if kind in BY_ITSELF:
        return federation._replace(transforms=(BY_ITSELF[kind], *federation.transforms))
    return federation._replace(aggregation=under_attack(federation.aggregation, TOGETHER[kind]))


def backdoor_success(learner: "Learner", params) -> dict:
    """The share of test rows of other classes that, with the trigger, are taken for the target, by its name in
    summary.json; {} without a backdoor. Of the server's model."""
    if learner.local.poison is not POISONS["backdoor"]:
        return {}
    told, score = learner.problem.hostile, learner.score
    test = jax.device_get(score.test)
    others = test.labels != told.target
    features = np.asarray(triggered(test.features[others], told))
    rows = Rows(np.full(len(features), told.target, test.labels.dtype), features)
    found = score.scores(*jax.device_get((params, score.frozen)), rows)
    return {BACKDOOR: float(figures(jax.device_get(found)).accuracy)} if len(features) else {}


def hostility_of(config: ConfigDict, classes: int, width: int) -> Hostility | tuple:
    """The numbers of the hostile clients, for rows of so many classes and numbers a feature; () where all are honest.

    Raises UsageError: there is no class of the number hostile.target."""
    hostile = config.hostile
    if hostile.kind == "none":
        return ()
    if hostile.kind == "backdoor" and hostile.target >= classes:
        raise UsageError("hostile.target", hostile.target, f"0 to {classes - 1}", "the number of a class")
    direction = np.random.default_rng(config.seed).normal(size=width)
    return Hostility(
        np.float32(hostile.share),
        np.float32(strength_of(config)),
        np.int32(hostile.redrawn),
        np.int32(classes),
        np.int32(hostile.target),
        (direction / np.linalg.norm(direction)).astype(np.float32),
    )
