"""A study from its config to all of its runs: a setting's rows are tuned on validation rows, then run by all seeds."""

import json
import pathlib
import time
from collections.abc import Callable
from typing import NamedTuple

from ml_collections import ConfigDict
from tqdm import tqdm

from cachefl_jax import interrupts
from cachefl_jax.config import Row, validate, with_overrides
from cachefl_jax.errors import UsageError
from cachefl_jax.interrupts import finishing, leave_if_asked
from cachefl_jax.simulation.contenders import config_of
from cachefl_jax.simulation.devices import use_engine
from cachefl_jax.simulation.made_of import package_digest
from cachefl_jax.simulation.notes import tell
from cachefl_jax.simulation.prepare import Inputs, counted
from cachefl_jax.simulation.shared import Shared
from cachefl_jax.simulation.sweep_folder import check_done, files_of_sources, refuse_other_data, source_of
from cachefl_jax.simulation.sweep_groups import Prepared
from cachefl_jax.simulation.sweep_points import inputs_of, refuse_unranked
from cachefl_jax.simulation.trial import try_components
from cachefl_jax.simulation.workdir import Workdir
from cachefl_jax.storage.entries import tidy_stores
from cachefl_jax.storage.files import write_json
from cachefl_jax.storage.leftovers import remove_leftovers
from cachefl_jax.storage.locks import folder_lock
from cachefl_jax.study.folder import (
    MARK,
    RUNS,
    Key,
    Lines,
    claim,
    packed,
    packed_classes,
    refuse_other_code,
    write_lines,
)
from cachefl_jax.study.page import write_results, written
from cachefl_jax.study.plan import Setting, Study
from cachefl_jax.study.results import choose, scores_of
from cachefl_jax.study.search import Search
from cachefl_jax.study.space import Candidate, most_points
from cachefl_jax.study.trainers import Trained, Trainer, learner_of

SECONDS_A_SAVE = 2.0  # between two, which write all lines


Told = Callable[[str, int, int], None]  # (a row that is done, how many are, of how many)


def run_study(study: Study, workdir: pathlib.Path, told: Told | None = None) -> None:
    """Runs what the folder does not hold yet, and writes what comes of it; `told` is called after each row.

    Raises UsageError: the folder holds another study or one on other data, or a config asks for what is not there."""
    lines = claim(workdir, study)
    use_engine(study.config.engine)
    if written(workdir, lines):
        check_done(workdir, *by_number(lines, study))
        return
    Workdir(workdir).refuse_read_only()
    with folder_lock(workdir):
        remove_leftovers(workdir, (MARK, RUNS))
        tidy_stores()
        lines = claim(workdir, study)  # once more: another command may just have left
        refuse_other_data(workdir, *by_number(lines, study))
        Runner(study, workdir, lines).run(told)
        write_results(study, lines, workdir)


def by_number(lines: Lines, study: Study) -> tuple[dict, list]:
    """(lines by their place, the config of each), as the checks of a sweep's folder take them."""
    settings = {setting.name: setting for setting in study.settings}
    configs = [of_seed(settings[key.setting], key.seed) for key in lines]
    return dict(enumerate(lines.values())), configs


class Ready(NamedTuple):
    """A point of a row, ready to be trained."""

    key: Key
    candidate: Candidate
    prepared: Prepared


class Runner:
    """A study's runs in a folder that is this process's own."""

    def __init__(self, study: Study, workdir: pathlib.Path, lines: Lines):
        self.study, self.workdir, self.lines = study, workdir, lines
        self.saved = time.monotonic()
        self.inputs: dict[str, Inputs] = {}  # of the source at hand
        self.shared = Shared()  # of the same
        self.files: dict[str, dict[str, str]] = {}  # by source
        self.points = 0  # that were made ready
        self.bar = tqdm(total=sum(map(self.most_runs, study.rows)), desc="runs", unit="run", disable=None)

    def run(self, told: Told | None = None) -> None:
        """Source after source of data, so that no more than one's rows are in memory; settings of one source share
        programs."""
        sources: dict[str, list[Setting]] = {}
        for setting in self.study.settings:
            sources.setdefault(source_of(setting.config), []).append(setting)
        with self.bar:
            done, whole = 0, len(sources) * len(self.study.rows)
            for settings in sources.values():
                self.prepare(settings)
                for row in self.study.rows:
                    self.bar.set_description(row.name)
                    self.run_row(row, settings)
                    done += 1
                    if told is not None:
                        told(row.name, done, whole)

    def most_runs(self, row: Row, settings: list[Setting] | None = None) -> int:
        """How many runs a row has in these settings, or in all, where the method refuses none of its points."""
        tuning, seeds = len(self.study.tuning_seeds), len(self.study.seeds)
        settings = self.study.settings if settings is None else settings
        return sum(most_points(setting.config, row) * tuning + seeds - tuning for setting in settings)

    def prepare(self, settings: list[Setting]) -> None:
        """Reads and encodes all that these settings need, and marks the folder: no refusal of data can come any more.

        Raises UsageError: data are not to be had, or have no validation rows to choose by."""
        self.inputs, self.shared = {}, Shared()
        configs = [of_seed(setting, seed) for setting in settings for seed in self.study.seeds]
        self.files |= files_of_sources(configs)  # before they are read, as a run does
        notes: dict[str, None] = {}
        for config in configs:
            inputs = inputs_of(config, self.inputs, self.shared)
            if self.study.config.study.budget > 1:
                refuse_unranked(config, inputs)
                refuse_tested(inputs.parts)
            notes |= dict.fromkeys(inputs.told)
        tell(notes)
        write_json(self.workdir / MARK, self.study.mark())

    def run_row(self, row: Row, settings: list[Setting]) -> None:
        """Tunes a row in each of these settings and runs what was chosen by the other seeds."""
        shared, trainer, every = Shared(), Trainer(row), []
        searches = [(setting, Search(setting.config, row)) for setting in settings]
        while asked := [point for each in searches for point in self.asked(row, *each, shared)]:
            trainer.add([point.prepared for point in asked])
            self.run_points([point for point in asked if point.key.seed in self.study.tuning_seeds], trainer)
            every += asked
        for setting, search in searches:
            self.forget_others(row, setting, search)
            if search.refused:
                what = f"{len(search.refused)} points are" if search.tried else "the row is"
                tell([f"{row.name}: {what} left out{setting.name and f', {setting.name}'}: {search.refused[0][1]}"])
        chosen = {setting.name: choose(self.lines, setting.name, row, self.study) for setting in settings}
        others = [point for point in every if point.key.seed not in self.study.tuning_seeds]
        others = [point for point in others if point.key.candidate == chosen[point.key.setting]]
        tuned = sum(len(search.tried) for _, search in searches) * len(self.study.tuning_seeds)
        self.bar.total += tuned + len(others) - self.most_runs(row, settings)
        self.run_points(others, trainer)

    def asked(self, row: Row, setting: Setting, search: Search, shared: Shared) -> list[Ready]:
        """What a row's search asks for in a setting, by all seeds. A candidate that the method refuses for these data
        is none."""
        scores, found = scores_of(self.lines, setting.name, row, self.study), []
        while not found and (candidates := search.ask(scores)):
            for candidate in candidates:
                try:
                    found += [self.point(row, setting, candidate, seed, shared) for seed in self.study.seeds]
                except UsageError as error:
                    if row.name == self.study.own and not candidate.number:
                        raise
                    search.refuse(candidate, error)
        return found

    def point(self, row: Row, setting: Setting, candidate: Candidate, seed: int, shared: Shared) -> Ready:
        """A point with all that it needs. Raises UsageError: the method cannot be had with these values or data."""
        base = of_seed(setting, seed)
        inputs = inputs_of(base, self.inputs, self.shared)
        config = with_overrides(config_of(counted(base, inputs), row), candidate.values)
        validate(config)
        learner = learner_of(config, row, inputs, shared)
        if not candidate.number and seed == self.study.seeds[0]:
            try_components(config, learner, inputs.bank.classes)
        key = Key(setting.name, row.name, seed, candidate.number)
        self.points += 1
        return Ready(key, candidate, Prepared(self.points, config, inputs, learner))

    def run_points(self, points: list[Ready], trainer: Trainer) -> None:
        """Runs those of these points that have no line yet."""
        left = {point.prepared.number: point for point in points if not self.holds(point)}
        self.bar.update(len(points) - len(left))
        if not left:
            return
        refuse_other_code(self.workdir, self.lines)
        with finishing():
            for trained in trainer.train(list(left)):
                self.add(left[trained.number], trained)
                self.bar.update()
                if interrupts.asked() or time.monotonic() - self.saved > SECONDS_A_SAVE:
                    self.save()
                    leave_if_asked()
            self.save()

    def holds(self, point: Ready) -> bool:
        """Whether a line is of this very point: a search that goes another way numbers other points."""
        line = self.lines.get(point.key)
        return line is not None and line["values"] == json.loads(json.dumps(point.candidate.values))

    def forget_others(self, row: Row, setting: Setting, search: Search) -> None:
        """Drops lines of points that the search did not ask for this time. It goes another way where lines were lost
        and their trainings come out otherwise by rounding, as on another machine."""
        own = [key for key in self.lines if key[:2] == (setting.name, row.name)]
        if others := [key for key in own if key.candidate not in search.tried]:
            for key in others:
                del self.lines[key]
            self.save()

    def add(self, point: Ready, trained: Trained) -> None:
        """Notes what a point came to."""
        right, sites = trained.right, point.prepared.learner.score.own.sites
        correct = None if right is None else packed(right)
        known = right is not None and right.predicted is not None and sites is not None
        entry = trained.entry | {"test_class_accuracy": None}  # a thousand classes would be most of the file
        self.lines[point.key] = point.key._asdict() | {
            "values": point.candidate.values, "diverged": trained.diverged, "entry": entry, "correct": correct,
            "predicted": packed_classes(right.predicted) if known else None,
            "parts": point.prepared.inputs.parts, "files": self.files[source_of(point.prepared.config)],
            "code": package_digest(),
        }  # fmt: skip

    def save(self) -> None:
        write_lines(self.workdir / RUNS, self.lines)
        self.saved = time.monotonic()


def refuse_tested(parts: dict[str, str]) -> None:
    """Stops where test rows would choose. Raises UsageError: the validation rows are the test rows."""
    for what in ("rows", "images"):
        if f"test {what}" in parts and parts[f"test {what}"] == parts.get(f"validation {what}"):
            mend = "bring others, or leave them out with --config.data.validation_share=0.1"
            raise UsageError("data", f"validation {what} that are the test {what}", f"other {what} to choose by", mend)


def of_seed(setting: Setting, seed: int) -> ConfigDict:
    return with_overrides(setting.config, {"seed": seed})
