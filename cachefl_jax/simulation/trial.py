"""A user's components, tried on shapes before anything is written: what raises or does not fit is told in one line."""

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.config import lookup
from cachefl_jax.config.components import COMPONENTS
from cachefl_jax.config.method import METHODS
from cachefl_jax.errors import UsageError
from cachefl_jax.federation import (
    Cohort,
    Federation,
    Participation,
    Plan,
    by_itself,
    fedavg,
    init_server,
    with_personal_leaves,
)
from cachefl_jax.federation.participation import by_size
from cachefl_jax.federation.problem import in_view
from cachefl_jax.federation.round import train_round
from cachefl_jax.named import users_code
from cachefl_jax.simulation.build import Learner

DRAWS = 3  # rounds whose cohorts are looked at


def try_components(config: ConfigDict, learner: Learner, classes: int) -> None:
    """Traces a round with each component that is a user's, the others being FedAvg's. Costs nothing without any.

    Raises UsageError: its code raises, or leaves params of other shapes; a cohort has members that are none."""
    parts, local = learner.federation, learner.local
    plain = Federation(local._replace(work=by_itself(local.work)))
    if learner.method.personal:
        plain = Federation(local._replace(work=with_personal_leaves(fedavg, learner.method.personal)))
    if learner.method.closed_form:
        plain = plain._replace(aggregation=parts.aggregation)
    if learner.name not in METHODS:
        check_logits(learner, classes)
        trace(("method", learner.name), plain, learner)
    for field, federation in (
        ("local.algorithm", plain._replace(local=learner.local)),
        ("participation.name", plain._replace(participation=parts.participation, cohort=parts.cohort)),
        ("updates.transforms", plain._replace(transforms=parts.transforms, mechanism=parts.mechanism)),
        ("downloads.transforms", plain._replace(downloads=parts.downloads)),
        ("aggregation.name", plain._replace(aggregation=parts.aggregation)),
    ):
        value = lookup(config, field)
        own = [name for name in ((value,) if isinstance(value, str) else value) if name not in COMPONENTS[field].table]
        for name in own[:1]:
            if field == "participation.name":
                check_participation(name, parts, learner)
            trace((field, name), federation, learner)


def check_logits(learner: Learner, classes: int) -> None:
    """Refuses params that are not float32, and logits that are not a number a row and class."""
    kinds = {str(jnp.result_type(leaf)) for leaf in jax.tree.leaves(learner.params)}  # float64 becomes float32
    if kinds - {"float32"}:
        value = f"{learner.name}, whose params are {', '.join(sorted(kinds))}"
        raise UsageError("method", value, "params of float32", "init: return jnp.float32 arrays")
    with users_code("method", learner.name):
        found = jax.eval_shape(learner.method.logits, learner.params, learner.score.frozen, learner.score.test)
    due = len(learner.score.test.labels), classes
    if getattr(found, "shape", None) != due:
        value = f"{learner.name}, whose logits have shape {getattr(found, 'shape', type(found).__name__)}"
        raise UsageError("method", value, f"[rows, classes], here {due}", "correct logits")


def check_participation(name: str, parts: Federation, learner: Learner) -> None:
    """Refuses cohorts of clients that are not there, or are there twice."""
    participation: Participation = parts.participation
    with users_code("participation.name", name):
        places = int(participation.places(learner.clients, parts.cohort))
        keys = jax.random.split(learner.problem.key, DRAWS)
        drawn = [participation.draw(key, learner.clients, parts.cohort) for key in keys]
        cohorts = [(np.asarray(each.clients), int(each.size)) for each in drawn if isinstance(each, Cohort)]
    allowed = f"1 to {learner.clients} places and as many numbers of clients from 0 to {learner.clients - 1}, each once"
    for clients, size in cohorts:
        members = clients[:size]
        sound = 0 < places <= learner.clients and clients.shape == (places,) and 0 <= size <= places
        if not sound or len(set(members.tolist())) < size or not ((members >= 0) & (members < learner.clients)).all():
            value = f"{name}, which gives {places} places and draws {members.tolist()[:8]} of {size}"
            raise UsageError("participation.name", value, allowed, "correct places or draw")
    if len(cohorts) < DRAWS:
        raise UsageError("participation.name", f"{name}, whose draw gives no Cohort", "a Cohort", "return Cohort(...)")


def trace(named: tuple[str, str], federation: Federation, learner: Learner) -> None:
    """Traces a round; nothing is computed."""

    def one_round(params, problem):
        state = init_server(federation, params, problem)
        cohort = federation.participation.draw(problem.key, learner.clients, federation.cohort)
        ordered = by_size(cohort, in_view(problem.clients, federation.local.views, 0))
        return state, train_round(federation, Plan(), state, ordered, problem)[0]

    with users_code(*named):
        before, after = jax.eval_shape(one_round, learner.params, learner.problem)
        shapes = [[(leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(state)] for state in (before, after)]
    if shapes[0] != shapes[1]:
        value = f"{named[1]}, after which a round's state has shapes {shapes[1]}"
        raise UsageError(named[0], value, f"the shapes before it, {shapes[0]}", "correct what it returns")
