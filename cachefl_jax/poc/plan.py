"""How many points of each row there is time to try, and the studies of which a proof of concept is made.

first     every row as the config has it, by all seeds: what a point takes is measured here
study     every row tuned by as many points as there is time for, the same number for each
shots     rows that matter, with fewer training images
left_out  the same without one site after another
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from ml_collections import ConfigDict

from cachefl_jax.config import changed
from cachefl_jax.study.folder import Lines
from cachefl_jax.study.plan import Study, study_of

FIRST, TUNED, SHOTS, LEFT_OUT = "first", "study", "shots", "left_out"
TUNING_SHARE = 0.5  # of the minutes left after `first`; shots, sites left out, the run and the page take the others
RUN_SHARE = 0.6  # of a point's training that points side by side take each, measured on two cores


def first_study(config: ConfigDict) -> Study:
    """Every row as it is."""
    return study_of(changed(config, {"study.budget": 1}), [{}])


def tuned_study(config: ConfigDict, points: int) -> Study:
    """Every row tuned by so many points."""
    return study_of(changed(config, {"study.budget": points}), [{}])


def points_for(config: ConfigDict, lines: Lines, seconds: float, spent: float) -> int:
    """Points a row for which there is time: what is left of the minutes, by what a run of each row took.

    Args:
        config: with poc.minutes and poc.most_points.
        lines: of `first_study`.
        seconds: that `first_study` took, compiling above all; another study has to compile as much.
        spent: seconds since the start."""
    left = TUNING_SHARE * (60 * config.poc.minutes - spent) - seconds
    point = RUN_SHARE * sum(training_seconds(line["entry"]) for line in lines.values()) / config.study.seeds
    most = config.poc.most_points
    return max(1, min(most, math.floor(left / point) if point > 0 else most))


def training_seconds(entry: dict[str, Any]) -> float:
    """Of all rounds of a run; 0 for one that trains none."""
    return (entry.get("seconds_per_round") or 0.0) * (entry.get("rounds") or 0)


def varied(config: ConfigDict, rows: Iterable[str], overrides: Iterable[str], settings: list[dict]) -> Study:
    """Rows with the values that were chosen for them, in other settings."""
    changes = {"study.budget": 1, "compare": tuple(rows), "overrides": tuple(overrides)}
    return study_of(changed(config, changes), settings)


def shots_settings(config: ConfigDict) -> list[dict]:
    return [{"partition.shots": int(shots)} for shots in config.poc.shots]


def left_out_settings(sites: int, names: Sequence[str]) -> list[dict]:
    """One for each site, by its name where that is its own."""
    words = [names[site] if names and list(names).count(names[site]) == 1 else str(site) for site in range(sites)]
    return [{"partition.left_out": (word,)} for word in words] if sites > 1 else []
