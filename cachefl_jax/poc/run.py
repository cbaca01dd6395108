"""A proof of concept from its config to the report, stage by stage; each goes on where it was stopped."""

import csv
import functools
import io
import pathlib
import sys
import time
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.config import changed, default, lookup, other_fields, resolve
from cachefl_jax.config.as_json import resolved, told_apart
from cachefl_jax.errors import UsageError
from cachefl_jax.poc import plan
from cachefl_jax.poc.asked import accepted, first_words
from cachefl_jax.poc.current import classes_of, read_answers, test_files
from cachefl_jax.poc.decision import Found, decide
from cachefl_jax.poc.page import render
from cachefl_jax.poc.samples import TestRows, predictions_of
from cachefl_jax.poc.verdict import ALONE, recommended
from cachefl_jax.poc.wording import duration
from cachefl_jax.report.page import write_page
from cachefl_jax.simulation.devices import use_engine
from cachefl_jax.simulation.notes import each_once, tell
from cachefl_jax.simulation.prepare import Inputs, names_of, prepare
from cachefl_jax.simulation.train import run_in
from cachefl_jax.simulation.workdir import Workdir, refuse_other_files
from cachefl_jax.storage.checked_json import read
from cachefl_jax.storage.files import write_json, write_whole
from cachefl_jax.storage.locks import folder_lock
from cachefl_jax.study.folder import Lines, claim
from cachefl_jax.study.plan import Study
from cachefl_jax.study.results import Table, choose, table_of
from cachefl_jax.study.run import run_study
from cachefl_jax.study.tables import overrides_words

MARK, PLAN, SECONDS = "poc.json", "plan.json", "seconds.json"
DECISION, PAGE = "decision.json", "report.html"
RUN = "run"
# What may be another in a later start: nothing is trained by it. `lasting` has these at their defaults.
LATER = ("poc.minutes", "poc.current", "poc.synthetic_origin", "synthesis.price_gpu_hour")


class Stage(NamedTuple):
    """A study that is done."""

    study: Study
    lines: Lines


class Poc:
    """A proof of concept in a folder that is this process's own."""

    def __init__(self, config: ConfigDict, workdir: pathlib.Path):
        self.config, self.workdir, self.began = config, workdir, time.monotonic()
        self.lasting = lasting(config)
        # Of each stage when it was first done: a later start finds it done, and takes no time for it.
        self.seconds: dict[str, float] = read(workdir / SECONDS) if (workdir / SECONDS).is_file() else {}

    def run(self) -> dict[str, Any]:
        """All stages; returns what decision.json holds.

        Raises UsageError: folders, the server's images or today's predictions are not to be had."""
        inputs, current = self.prepare()
        first = self.stage(plan.FIRST, plan.first_study(self.lasting))
        points = self.points(first)
        tuned = first if points == 1 else self.stage(plan.TUNED, plan.tuned_study(self.lasting, points))
        table = table_of(tuned.study, tuned.study.settings[0], tuned.lines)
        names = self.names(table)
        overrides = overrides_words(tuned.study, table)
        rows, sites = tuple(dict.fromkeys((self.config.method, names, ALONE))), inputs.partition.clients
        site_names = names_of(self.config, inputs.source)
        shots = self.varied(plan.SHOTS, rows, overrides, plan.shots_settings(self.config))
        without = (self.config.method, *(name for name in (names,) if name != self.config.method))
        left_out = self.varied(plan.LEFT_OUT, without, overrides, plan.left_out_settings(sites, site_names))
        self.train(names, overrides)
        tests = test_rows(self.config, inputs)
        chosen = {row.name: choose(tuned.lines, "", row, tuned.study) for row in tuned.study.rows}
        chosen = {name: number for name, number in chosen.items() if number is not None}
        predicted = predictions_of(tuned.lines, "", chosen, tuned.study.seeds)
        self.write_predictions(tests, predicted, current)
        found = Found(self.config, inputs, tests, table, predicted, current, shots, left_out,
                      self.workdir / RUN, self.seconds, points)  # fmt: skip
        decision = decide(found)
        write_json(self.workdir / DECISION, decision)
        write_page(self.workdir / PAGE, render(decision))
        return decision

    def prepare(self) -> tuple[Inputs, np.ndarray | None]:
        """The images and features, and what today's model takes each test image for. Nothing is written before all of
        them are there."""
        began, path, root = time.monotonic(), self.config.poc.current, self.config.data.path
        answers = read_answers(path, root) if path else None  # a file that is none is told before images are encoded
        for line in first_words(self.config):
            print(line, file=sys.stderr)
        inputs = prepare(self.config)
        if inputs.source is None or inputs.test_clients is None:
            allowed = "folders of sites: data.group_column=folder and partition.name=natural"
            raise UsageError("data.name", self.config.data.name, allowed, "start from --config=poc")
        current = None if answers is None else classes_of(answers, path, root, inputs.source)
        self.workdir.mkdir(parents=True, exist_ok=True)
        write_json(self.workdir / MARK, {"config": resolved(self.lasting)})
        tests = test_rows(self.config, inputs)
        write_table(self.workdir / "test_files.csv", ("file", "label", "site"), described(tests))
        tell(inputs.told)
        self.took("reading and encoding", began)
        return inputs, current

    def stage(self, name: str, study: Study) -> Stage:
        """A study, run or gone on with."""
        began = time.monotonic()
        budget = study.config.study.budget
        counts = {"setting": len(study.settings), "row": len(study.rows), "point": budget, "seed": len(study.seeds)}
        told = ", ".join(f"{count} {what}{'s' * (count != 1)}" for what, count in counts.items())
        print(f"{name}: {told}", file=sys.stderr)
        run_study(study, self.workdir / name, functools.partial(tell_of_row, name, began))
        self.took(name, began)
        return Stage(study, claim(self.workdir / name, study))

    def took(self, stage: str, began: float) -> None:
        """Notes how long a stage has taken, where it was not done before."""
        if stage not in self.seconds:
            self.seconds[stage] = time.monotonic() - began
            write_json(self.workdir / SECONDS, self.seconds)

    def varied(self, name: str, rows: tuple[str, ...], overrides: list[str], settings: list[dict]) -> Stage | None:
        """Chosen rows in other settings, by one seed."""
        if not settings:
            return None
        config = changed(self.lasting, {"study.seeds": 1, "study.tuning_seeds": 1})
        return self.stage(name, plan.varied(config, rows, overrides, settings))

    def points(self, first: Stage) -> int:
        """Points a row, as an earlier start has decided, or by the clock."""
        file = self.workdir / PLAN
        if file.is_file():
            return int(read(file)["points"])
        points = plan.points_for(self.config, first.lines, self.seconds[plan.FIRST], time.monotonic() - self.began)
        write_json(file, {"points": points, "minutes": self.config.poc.minutes})
        if points == 1 < self.config.poc.most_points:
            spent = duration(time.monotonic() - self.began)
            told = f"tuning is skipped: {spent} of {self.config.poc.minutes:g} minutes are over, which leaves no time"
            print(f"{told}. --minutes=MORE, into a new folder, has it tuned.", file=sys.stderr)
        return points

    def names(self, table: Table) -> str:
        """The recommended row, by validation accuracy."""
        rows = {row.name: {"regime": row.regime, "validation_accuracy": row.average("validation_accuracy")}
                for row in table.rows if row.sample is not None}  # fmt: skip
        return recommended(rows, self.config.method)

    def train(self, name: str, overrides: list[str]) -> None:
        """The run that leaves what is deployed: CacheFL's own, and the recommended row beside it."""
        began = time.monotonic()
        rows = tuple(dict.fromkeys(("zero_shot", "cache_init", self.config.method, name)))
        config = changed(self.lasting, {"compare": rows, "overrides": tuple(overrides)})
        run_in(resolve(config), Workdir(self.workdir / RUN))
        self.took(RUN, began)

    def write_predictions(self, tests: TestRows, predicted: dict[str, np.ndarray], current: np.ndarray | None) -> None:
        """predictions.csv: what each row took each test image for, by the first seed."""
        columns = {name: each[0] for name, each in predicted.items()}
        if current is not None:
            columns["current"] = current
        names = np.array([*tests.class_names, ""])  # -1: no model of its site
        answers = zip(*(names[column] for column in columns.values()), strict=True)
        lines = [(*line, *row) for line, row in zip(described(tests), answers, strict=True)]
        write_table(self.workdir / "predictions.csv", ("file", "label", "site", *columns), lines)


def run_poc(config: ConfigDict, workdir: pathlib.Path) -> dict[str, Any]:
    """Runs the proof of concept of a config, or goes on with it; returns what decision.json holds.

    Raises UsageError: as `Poc.run`, or the folder holds another."""
    config = accepted(resolve(config))
    claim_folder(workdir, config)
    use_engine(config.engine)
    Workdir(workdir).refuse_read_only()
    with folder_lock(workdir), each_once():
        claim_folder(workdir, config)
        return Poc(config, workdir).run()


def tell_of_row(stage: str, began: float, row: str, done: int, whole: int) -> None:
    """A line of a stage's progress, for a terminal or a log."""
    spent = time.monotonic() - began
    left = duration(spent * (whole - done) / done)
    told = f"{row}, {done} of {whole} rows" + (f", about {left} left" if done < whole else "")
    print(f"{stage}: {told}", file=sys.stderr)


def lasting(config: ConfigDict) -> ConfigDict:
    """What the folder is known by."""
    defaults = default()
    return changed(config, {field: lookup(defaults, field) for field in LATER})


def claim_folder(workdir: pathlib.Path, config: ConfigDict) -> None:
    """Raises UsageError: the folder holds something else, or a proof of concept of another config."""
    mark = workdir / MARK
    refuse_other_files(workdir, mark, "a proof of concept's")
    if not mark.is_file():
        return
    theirs, ours = read(mark)["config"], resolved(lasting(config))
    if fields := other_fields(theirs, ours):
        value = f"{workdir} with a proof of concept of another config ({told_apart(theirs, ours, fields)})"
        raise UsageError("--workdir", value, "a new folder, or the same command", "name another")


def test_rows(config: ConfigDict, inputs: Inputs) -> TestRows:
    """The test images of these inputs."""
    source = inputs.source
    files = test_files(source, config.data.path)
    names = [source.site_names[site] for site in np.unique(source.train.groups)]
    return TestRows(files, source.test.labels, inputs.test_clients, tuple(source.class_names), tuple(names))


def described(tests: TestRows) -> list[tuple[str, str, str]]:
    """(file, class, site) of each test image."""
    sites = (*tests.site_names, "")  # -1: a site without training images
    return [(file, tests.class_names[label], sites[site])
            for file, label, site in zip(tests.files, tests.labels, tests.sites, strict=True)]  # fmt: skip


def write_table(path: pathlib.Path, columns: tuple[str, ...], lines: list[tuple]) -> None:
    """A CSV file, whole."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *lines])
    write_whole(path, lambda file: file.write(text.getvalue().encode("utf-8", "surrogateescape")))
