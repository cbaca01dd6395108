"""Who is compared: methods, each with the values that its rows have of their own, and the learner of each."""

import json
from typing import NamedTuple

from ml_collections import ConfigDict

from cachefl_jax.config import Row, overrides_of, rows_of, with_overrides
from cachefl_jax.errors import UsageError
from cachefl_jax.methods import find_method
from cachefl_jax.simulation.build import Learner
from cachefl_jax.simulation.examples import reads_features


class Contender(NamedTuple):
    """A method as some rows of the table train it."""

    config: ConfigDict  # with these rows' own values
    method: str  # as a config names it
    rows: list[Row]
    learner: Learner | None = None

    @property
    def federated(self) -> Row | None:
        """The row that has rounds of clients and server, if one has."""
        return next((row for row in self.rows if row.regime == "federated"), None)


def own_of(config: ConfigDict) -> Row:
    """The row that a config's rounds train, whether it is compared or not."""
    row = Row(config.method, config.method, "federated")
    return next((each for each in rows_of(config) if each[1:] == row[1:]), row)


def config_of(config: ConfigDict, row: Row) -> ConfigDict:
    """The config that a row trains by: a closed form has one round, and `overrides` may say more."""
    values = overrides_of(config, row)
    rounds = values.get("rounds", config.rounds)
    if find_method(row.method).closed_form is not None and rounds > 1:
        values["rounds"] = 1
    return with_overrides(config, values)


def contenders_of(config: ConfigDict) -> list[Contender]:
    """The contenders of a config's rows, that of config.method's rounds first; zero_shot is among its rows."""
    own = own_of(config)
    found = {key_of(config, own): Contender(config_of(config, own), own.method, [])}
    for row in rows_of(config):
        like = own if row.regime == "zero_shot" else row
        found.setdefault(key_of(config, like), Contender(config_of(config, like), like.method, [])).rows.append(row)
    return list(found.values())


def check_regimes(rows: list[Row], learner: Learner) -> None:
    """Refuses rows whose regime is none for their method, before anything is trained.

    Raises UsageError: features do not suffice for it, or its clients have nothing to train on from."""
    method, mend = learner.method, "drop it from compare"
    for row in rows:
        if row.regime == "features_once" and (not reads_features(method.inputs) or "images" in method.inputs):
            allowed = "a method that reads features and no images: features are what a site sends"
            raise UsageError("compare", row.name, allowed, mend)
        if row.regime == "fine_tuned" and method.closed_form is not None:
            raise UsageError("compare", row.name, "a method that trains: this one is solved in closed form", mend)
        if row.regime == "fine_tuned" and learner.local.work.model is not None:
            raise UsageError("compare", row.name, "a method whose clients have no model of their own yet", mend)


def key_of(config: ConfigDict, row: Row) -> str:
    """What rows of one contender have in common."""
    return json.dumps([row.method, overrides_of(config, row)], sort_keys=True)
