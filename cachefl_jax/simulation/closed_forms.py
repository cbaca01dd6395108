"""A method's closed form as the work of a round: clients count, the server adds up and solves."""

import functools

import jax
import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.config import lookup
from cachefl_jax.errors import UsageError
from cachefl_jax.federation import Aggregation, ClientWork, Start
from cachefl_jax.federation.aggregation import double_sum, each
from cachefl_jax.methods import ClosedForm, Method, Rows

BATCH = 256  # rows of a client that are counted at once
# What would change a round that has nothing to train and nothing to average.
FIXED = {
    "local.algorithm": "fedavg", "aggregation.name": "mean", "server.optimizer": "sgd", "server.learning_rate": 1.0,
    "server.momentum": 0.0,
}  # fmt: skip


def check_closed(config: ConfigDict, method: Method) -> None:
    """Refuses what a closed form has no use for. Raises UsageError: a part of the round is another than usual."""
    for field, usual in FIXED.items():
        if field == "aggregation.name" and config.privacy.mechanism != "none" and lookup(config, field) == "uniform":
            continue  # what privacy asks of methods that train changes no sum
        if (value := lookup(config, field)) not in (usual, -1):
            allowed = f"{usual} with {method.label}, which is solved and not trained"
            raise UsageError(field, value, allowed, "leave it out, or drop the method from compare")


def check_rows(config: ConfigDict, method: Method, classes: int, client_rows: np.ndarray) -> None:
    """Refuses rows from which a closed form sees nothing. Raises UsageError: there are too few."""
    needed, rows = method.closed_form.rows_a_class * classes, int(client_rows.sum())
    if own(config, method, "closed_form.server_rows"):
        rows += config.cache.keys_per_class * classes
    if needed and rows <= needed:
        value = f"{method.label} with {rows} rows of {classes} classes"
        mend = "closed_form.server_rows=True with cache.keys_per_class=2 or more, or a larger data.shots"
        raise UsageError("method", value, f"more than {needed} rows, the server's among them where they count", mend)


def own(config: ConfigDict, method: Method, field: str):
    """The value of a field that the method may bring; None where it does not."""
    return lookup(config, field) if any(each.name == field for each in method.fields) else None


def aggregation_of(form: ClosedForm) -> Aggregation:
    """The sum of the clients' statistics, or all of them side by side."""
    return each if form.collect else double_sum


@functools.cache  # so that the points of a sweep are one program
def work_of(form: ClosedForm, unrounded: bool) -> ClientWork:
    """What clients and server do; sums that are sent `unrounded` are float64."""

    def statistics(start: Start, rows: Rows, valid: jax.Array):
        return form.statistics(start.problem.frozen, rows, valid)

    def apply(aggregate, start: Start, share: jax.Array):
        del share
        solved = form.solve(aggregate, start.problem.frozen)
        return jax.tree.map(lambda new, old: new - old.astype(new.dtype), solved, start.params), start.shared

    def alone(update, start: Start):
        update = jax.tree.map(lambda leaf: leaf[None], update) if form.collect else update
        solved = form.solve(update, start.problem.frozen)
        return jax.tree.map(lambda new, old: new.astype(old.dtype), solved, start.params)

    packed = (lambda sums: sums) if unrounded else form.packed
    return ClientWork(statistics=statistics, packed=packed, apply=apply, alone=alone)
