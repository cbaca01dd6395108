"""A study's runs put together: what each row comes to in each setting, and how every two of them compare."""

import itertools
import math
import statistics
from typing import Any, NamedTuple

import numpy as np

from cachefl_jax.config import Row
from cachefl_jax.report.table import label
from cachefl_jax.study.folder import Key, Lines, unpacked
from cachefl_jax.study.plan import Setting, Study
from cachefl_jax.study.statistics import UNKNOWN, Difference, Sample, difference, holm, verdict

REFERENCES = ("centralized",)  # regimes that need all data in one place: what could be had without privacy, no rival


class Standing(NamedTuple):
    """A row in a setting, over its seeds."""

    name: str
    label: str
    regime: str
    values: dict[str, Any]  # chosen, of each field that was searched
    tried: int  # points
    runs: dict[int, dict]  # entries by seed; one that did not stay finite has no figures of a model
    diverged: int  # seeds at which training did not stay finite
    sample: Sample | None  # None where it diverged for some seed or has no accuracy

    @property
    def mean(self) -> float | None:
        """Test accuracy, the mean over seeds; None where some seed has none."""
        return None if self.sample is None else float(self.sample.accuracy.mean())

    @property
    def std(self) -> float | None:
        """Of the same, over seeds; None for one."""
        if self.sample is None or len(self.sample.accuracy) < 2:
            return None
        return float(self.sample.accuracy.std(ddof=1))

    def average(self, *path: str) -> float | None:
        """The mean over seeds of a number of the entries; None where one lacks it."""
        found = [self.number(entry, path) for entry in self.runs.values()]
        return None if not found or None in found else float(np.mean(found))

    @staticmethod
    def number(entry: dict, path: tuple[str, ...]) -> float | None:
        value: Any = entry
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        return value


class Comparison(NamedTuple):
    """`row` less `rival`."""

    row: str
    rival: str
    difference: Difference
    adjusted: float | None  # p by Holm's rule, over the pairs of its family
    verdict: str  # of `row`


class Table(NamedTuple):
    """A setting with all its rows."""

    setting: Setting
    rows: list[Standing]
    rivals: list[Comparison]  # config.method's row against each other: a family
    pairs: list[Comparison]  # every two rows: another family

    def row(self, name: str) -> Standing:
        return next(row for row in self.rows if row.name == name)

    def best_rival(self, own: str) -> Comparison | None:
        """Against the other row of the best test accuracy, those apart that need all data in one place."""
        rows = {row.name: row for row in self.rows}
        found = [each for each in self.rivals if rows[each.rival].regime not in REFERENCES]
        return max(found, key=lambda each: rows[each.rival].mean, default=None)


def tables_of(study: Study, lines: Lines) -> list[Table]:
    """A table for each setting."""
    return [table_of(study, setting, lines) for setting in study.settings]


def table_of(study: Study, setting: Setting, lines: Lines) -> Table:
    rows = []
    for row in study.rows:
        chosen = choose(lines, setting.name, row, study)
        if chosen is not None:
            tried = sum(key[:3] == (setting.name, row.name, study.seeds[0]) for key in lines)
            found = {seed: lines[Key(setting.name, row.name, seed, chosen)] for seed in study.seeds}
            rows.append(standing(row.name, found, tried))
    scored = [row for row in rows if row.sample is not None]
    own = [row for row in scored if row.name == study.own]
    rivals = [(mine, other) for mine in own for other in scored if other is not mine]
    return Table(setting, rows, family(rivals), family(list(itertools.combinations(scored, 2))))


def standing(name: str, found: dict[int, dict], tried: int) -> Standing:
    first = next(iter(found.values()))
    entries = [line["entry"] for line in found.values()]
    sample = None
    if all(entry["test_accuracy"] is not None for entry in entries):
        known = all(line["correct"] is not None for line in found.values())
        correct = [unpacked(line["correct"]) for line in found.values()] if known else None
        accuracy = np.asarray([entry["test_accuracy"] for entry in entries])
        sample = Sample(accuracy, correct, [tested(line["parts"]) for line in found.values()])
    runs = {seed: line["entry"] for seed, line in found.items()}
    diverged = sum(line["diverged"] for line in found.values())
    words = label(name, first["entry"]), first["entry"].get("regime", "")
    return Standing(name, *words, first["values"], tried, runs, diverged, sample)


def tested(parts: dict[str, str]) -> str:
    """What tells a run's test rows from others'."""
    return "".join(digest for part, digest in sorted(parts.items()) if part.startswith("test "))


def family(pairs: list[tuple[Standing, Standing]]) -> list[Comparison]:
    """These comparisons, with p adjusted for their number."""
    differences = [difference(left.sample, right.sample) for left, right in pairs]
    adjusted = holm([each.p for each in differences])
    return [
        Comparison(left.name, right.name, each, p, UNKNOWN if p is None else verdict(each.mean, p))
        for (left, right), each, p in zip(pairs, differences, adjusted, strict=True)
    ]


def choose(lines: Lines, setting: str, row: Row, study: Study) -> int | None:
    """The candidate of the best mean validation accuracy over the tuning seeds; one that diverged comes last, and of
    equal ones the first. Test accuracy is not looked at. None: the row has no runs in this setting."""
    scores = scores_of(lines, setting, row, study)
    return min(scores, key=lambda number: (-scores[number], number), default=None)


def scores_of(lines: Lines, setting: str, row: Row, study: Study) -> dict[int, float]:
    """Of each candidate of a row that has runs, the mean validation accuracy over the tuning seeds; -inf where training
    did not stay finite for one of them."""
    scores: dict[int, list[float]] = {}
    for key, line in lines.items():
        if (key.setting, key.row) == (setting, row.name) and key.seed in study.tuning_seeds:
            score = line["entry"]["validation_accuracy"]
            scores.setdefault(key.candidate, []).append(-math.inf if line["diverged"] or score is None else score)
    return {number: statistics.fmean(found) for number, found in scores.items()}
