"""What a study is asked for: settings, rows and seeds, all checked before anything is computed."""

from typing import Any, NamedTuple

from ml_collections import ConfigDict

from cachefl_jax.config import Row, changed, resolve, rows_of
from cachefl_jax.config.as_json import resolved
from cachefl_jax.errors import UsageError
from cachefl_jax.study.space import check_space, space_of

COMMON = ("seed", "study.", "method", "methods", "compare", "overrides", "engine.devices", "engine.precision")


class Setting(NamedTuple):
    """What all rows of one table share: data, partition, rounds and the like."""

    name: str  # its overrides in words; "" for the config as it is
    overrides: dict[str, Any]
    config: ConfigDict  # resolved; evaluated after the last round alone


class Study(NamedTuple):
    """All that is to be run."""

    config: ConfigDict  # resolved, without a setting's overrides
    settings: list[Setting]
    rows: list[Row]

    @property
    def seeds(self) -> range:
        """Those of the runs that the table tells of."""
        return range(self.config.seed, self.config.seed + self.config.study.seeds)

    @property
    def tuning_seeds(self) -> range:
        """Those on whose validation rows values are chosen."""
        return self.seeds[: self.config.study.tuning_seeds]

    @property
    def own(self) -> str | None:
        """The row of config.method's rounds; None where it is not compared."""
        method = self.config.method
        return next((row.name for row in self.rows if row[1:] == (method, "federated")), None)

    def mark(self) -> dict:
        """What study.json holds: two studies with equal marks are the same."""
        return {
            "config": resolved(self.config),
            "settings": [{"name": setting.name, "overrides": setting.overrides} for setting in self.settings],
            "search": {row.name: {each.field: list(each.values) for each in space_of(row)} for row in self.rows},
        }


def study_of(base: ConfigDict, overrides: list[dict[str, Any]]) -> Study:
    """The study of a config in these settings.

    Raises UsageError: a config is wrong, nothing is compared with config.method, or a setting changes what all share.
    """
    config = resolve(base)
    settings = []
    for changes in overrides:
        if fixed := [field for field in changes if field.startswith(COMMON)]:
            allowed = "fields that a setting is made of, such as data.*, partition.* and rounds"
            raise UsageError("study: " + fixed[0], changes[fixed[0]], allowed, f"--config.{fixed[0]}, for all settings")
        own = resolve(changed(base, changes, "study: "))
        own.eval_every = max(own.rounds, 1)
        settings.append(Setting(", ".join(f"{field}={value}" for field, value in changes.items()), changes, own))
    names = [setting.name for setting in settings]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise UsageError("study", f"{repeated or 'the config as it is'}, twice", "settings that differ", "drop one")
    study = Study(config, settings, rows_of(config))
    if study.own is None:
        allowed = f"a list with {config.method}, whose rows the others are set against"
        raise UsageError("compare", ", ".join(row.name for row in study.rows), allowed, "add it")
    for row in study.rows:
        check_space(config, row)
    return study
