"""A sweep's points from their configs to a line of results each."""

import json
import math
import pathlib
import shlex
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from cachefl_jax.config import Row, overrides_of
from cachefl_jax.config.as_json import resolved
from cachefl_jax.config.components import named
from cachefl_jax.config.rows import row_of
from cachefl_jax.config.sites import file_of_profiles
from cachefl_jax.errors import UsageError
from cachefl_jax.federation import Outcome, Plan, Scores, figures
from cachefl_jax.interrupts import finishing, leave_if_asked
from cachefl_jax.simulation.build import Learner, build
from cachefl_jax.simulation.clock import bytes_of_run, hours_at, told_of_sites
from cachefl_jax.simulation.contenders import config_of, own_of
from cachefl_jax.simulation.devices import use_engine
from cachefl_jax.simulation.entries import result, told_of_rounds
from cachefl_jax.simulation.hostile import backdoor_success
from cachefl_jax.simulation.notes import tell
from cachefl_jax.simulation.own_models import over_models
from cachefl_jax.simulation.prepare import Inputs, counted, prepare
from cachefl_jax.simulation.privacy import told as told_of_privacy
from cachefl_jax.simulation.regimes import untrained
from cachefl_jax.simulation.scores import rounds_to, scores_of
from cachefl_jax.simulation.shared import Shared
from cachefl_jax.simulation.sweep_folder import (
    check_done,
    claim,
    files_of_sources,
    left_of,
    refuse_other_data,
    source_of,
    write_lines,
)
from cachefl_jax.simulation.sweep_groups import Prepared, Way, digest, kinds_of, make_group, run_group
from cachefl_jax.simulation.trial import try_components
from cachefl_jax.simulation.workdir import Workdir, own_row
from cachefl_jax.storage.entries import tidy_stores
from cachefl_jax.storage.files import write_json
from cachefl_jax.storage.leftovers import remove_leftovers
from cachefl_jax.storage.locks import folder_lock
from cachefl_jax.storage.run_files import UNSCORED


def run_points(
    configs: list[ConfigDict], overrides: list[dict], workdir: pathlib.Path, given: list[str], side_by_side: bool
) -> list[dict]:
    """Runs what results.jsonl does not hold yet; returns all lines, in the points' order.

    Raises UsageError: the folder holds another sweep or one on other data, or a config asks for what is not there."""
    lines = claim(workdir, configs)
    for config in configs:
        if not own_row(config):
            raise UsageError("methods", config.methods, f"a list with {config.method}, which a sweep trains", "add it")
    for config, changes in zip(configs, overrides, strict=True):
        if fixed := overrides_of(config, own_of(config)).keys() & changes.keys():
            value, allowed = ", ".join(sorted(fixed)), f"no field of {config.method} that the sweep varies"
            raise UsageError("overrides", value, allowed, "--config.overrides='()'")
    use_engine(*(config.engine for config in configs))
    if not left_of(lines, configs):
        check_done(workdir, lines, configs)
        return [lines[number] for number in sorted(lines)]
    Workdir(workdir).refuse_read_only()
    with folder_lock(workdir):
        return run_left(configs, overrides, workdir, given, side_by_side)


def run_left(
    configs: list[ConfigDict], overrides: list[dict], workdir: pathlib.Path, given: list[str], side_by_side: bool
) -> list[dict]:
    """`run_points` in a folder that is this process's own."""
    remove_leftovers(workdir, ("sweep.json", "results.jsonl"))
    tidy_stores()
    lines = claim(workdir, configs)  # once more: another sweep may just have left
    left = left_of(lines, configs)
    refuse_other_data(workdir, lines, configs)
    files = files_of_sources([configs[number] for number in left])  # before they are read, as a run does
    points = prepared_points(configs, left)
    tell(dict.fromkeys(note for point in points for note in point.inputs.told))
    kinds, started, refused = kinds_of(points), {}, None
    with finishing(), tqdm(initial=len(lines), total=len(configs), desc="points", disable=None) as bar:
        for at, (kind, alike) in enumerate(kinds.items(), 1):
            bar.set_postfix_str(f"program {at} of {len(kinds)}")
            try:  # in its turn, for Linux lets a process have no more memory maps than a hundred programs take
                group = make_group(kind, alike, Way(side_by_side))
            except UsageError as error:
                refused = refused or error
                continue
            if not (mark := workdir / "sweep.json").is_file():
                write_json(mark, [resolved(config) for config in configs])
            for batch, outcome, seconds in run_group(group):
                for number, point in enumerate(batch):
                    own = jax.tree.map(lambda leaf, at=number: leaf[at], outcome)
                    told = line(point, own, seconds / len(batch), started)
                    changes = overrides[point.number]
                    told |= {"overrides": changes, "command": again(point, group.plan, changes, workdir, given)}
                    told["files"] = files[source_of(configs[point.number])]
                    lines[point.number] = told
                bar.update(len(batch))
                write_lines(workdir / "results.jsonl", lines)
                leave_if_asked()
    if refused:
        raise refused
    return [lines[number] for number in sorted(lines)]


def prepared_points(configs: list[ConfigDict], left: list[int]) -> list[Prepared]:
    """These points with all that they need, built once where several need the same."""
    shared, prepared, points, tried = Shared(), {}, [], set()
    for number in tqdm(left, desc="preparing", unit="point", disable=None, delay=2, leave=False):
        inputs = inputs_of(configs[number], prepared, shared)
        refuse_unranked(configs[number], inputs)
        config = counted(configs[number], inputs)
        config = config_of(config, own_of(config))
        learner, components = build(config, inputs, shared), tuple(named(config))
        if components not in tried:
            try_components(config, learner, inputs.bank.classes)
            tried.add(components)
        points.append(Prepared(number, config, inputs, learner))
    return points


def refuse_unranked(config: ConfigDict, inputs: Inputs) -> None:
    """Stops before anything is trained that could not be ranked. Raises UsageError: there are no validation rows."""
    if inputs.bank.validation is None:
        allowed = "above 0, or data with validation rows: a sweep ranks its points by them"
        mend = "--config.data.validation_share=0.1, and of each class two training rows or more"
        raise UsageError("data.validation_share", config.data.validation_share, allowed, mend)


def inputs_of(config: ConfigDict, prepared: dict[str, Inputs], shared: Shared) -> Inputs:
    """The point's inputs, out of `prepared` where another starts from the same; without images: none are shown."""
    groups = [config[name].to_dict() for name in ("data", "clip", "synthesis", "partition")]
    name = json.dumps([config.seed, config.cache.keys_per_class, file_of_profiles(config), *groups])
    if name not in prepared:
        prepared[name] = shared.inputs(prepare(config))._replace(images=None)
    return prepared[name]


class Done(NamedTuple):
    """What a point came to."""

    entry: dict  # as in summary.json
    curve: dict[str, list]  # round, test and validation accuracy; these are None where it diverged
    diverged: bool


def line(point: Prepared, outcome: Outcome, seconds: float, started: dict[tuple, dict]) -> dict:
    """A point's line of results.jsonl. `started` has the entries of rows without rounds that other points have made."""
    own, *others = (row_of(point.config.method, word) for word in (point.config.method, "zero_shot", "cache_init"))
    methods = {row.name: entry_at_round_0(point, row, started) for row in others}
    start = methods["cache_init"]
    done = done_of(point, own, outcome, seconds, start)
    methods[own.name] = done.entry
    if not done.diverged:
        accuracies = [start["test_accuracy"], *done.curve["test"]]
        methods[own.name] |= {"rounds_to": rounds_to([0, *done.curve["round"]], accuracies)}
    return {
        "point": point.number,
        "method": own.name,
        "diverged": done.diverged,
        # A thousand classes at a thousand points would be most of the file; a point's own command tells of them.
        "methods": {name: {**entry, "test_class_accuracy": None} for name, entry in methods.items()},
        "curve": done.curve,
        "keys_sha256": digest(outcome.params),
        "parts": point.inputs.parts,
    }


def done_of(point: Prepared, row: Row, outcome: Outcome, seconds: float, start: dict) -> Done:
    """What a point came to as the rounds of `row`; `start` is the entry of round 0, which counts where there are no
    rounds."""
    config, learner = point.config, point.learner
    every = min(config.eval_every, max(config.rounds, 1))
    count = math.ceil(config.rounds / every)
    evaluated = jax.tree.map(lambda leaf: leaf[:count], outcome.scores)
    test, validation = (over_clients(figures(scores).accuracy).tolist() for scores in evaluated)
    told = [outcome.finite, outcome.train_loss[:count], test, validation]
    diverged = not all(np.isfinite(numbers).all() for numbers in told)
    if diverged:
        test, validation = [None] * count, [None] * count
    scores = UNSCORED if diverged else start
    if count and not diverged:
        scores = scores_at_last(learner, jax.tree.map(lambda leaf: leaf[-1], evaluated))
        scores |= backdoor_success(learner, outcome.params)
    up, down = learner.traffic()
    sent = (up + down) * (config.cohort or config.partition.clients) * config.rounds  # expected, of Poisson's cohorts
    if learner.timetable is not None:
        sent = bytes_of_run(learner)
    if learner.federation.measures is not None:
        up = sent = None  # a sweep does not measure it
    entry = result(
        scores | told_of_rounds(row, learner) | told_of_privacy(config) | told_of_sites(learner), (up, down, sent),
        rounds=config.rounds,
        flops=learner.flops(), seconds=seconds / config.rounds if config.rounds else None,
    )  # fmt: skip
    rounds = [min((at + 1) * every, config.rounds) for at in range(count)]
    return Done(entry, {"round": rounds, "test": test, "validation": validation} | hours_at(learner, rounds), diverged)


def over_clients(accuracies: np.ndarray) -> np.ndarray:
    """[E] of each evaluation: the mean over clients where they have models of their own, [E, C]."""
    return accuracies.mean(axis=tuple(range(1, accuracies.ndim)))


def scores_at_last(learner: Learner, scores: list[Scores]) -> dict:
    """The figures of a point's last evaluation."""
    if learner.local.work.model is None:
        return scores_of(learner.score.own, *scores)
    rows = [len(split.labels) for split in learner.score.splits]
    return over_models(learner.score.own, rows, [(np.arange(learner.clients), scores)])


def entry_at_round_0(point: Prepared, row: Row, started: dict[tuple, dict]) -> dict:
    """The entry of a row without rounds, without an accuracy where a run would be refused for it. Points that start
    alike are scored once."""
    learner = point.learner
    scorer, params = (learner.zero_shot, ()) if row.regime == "zero_shot" else (learner.score, learner.params)
    leaves, structure = jax.tree.flatten(scorer and (params, scorer.frozen, scorer.splits))
    # Numbers by their values, arrays by their identity: `Shared` makes equal ones one.
    values = (float(leaf) if isinstance(leaf, np.number) else id(leaf) for leaf in leaves)
    name = row.name, learner.name, id(learner.score.own), structure, *values
    if name not in started:
        try:
            started[name] = untrained(point.config, learner, row)
        except UsageError:
            started[name] = result(UNSCORED)
    return started[name]


def again(point: Prepared, plan: Plan, changes: dict, workdir: pathlib.Path, given: list[str]) -> str:
    """The command that runs this point alone, to the same bits; it begins with the words `given`."""
    fields = {**changes, "engine.strategy": plan.strategy, "engine.devices": 1}
    if plan.strategy in ("chunk", "dual"):
        fields |= {"engine.client_chunk": plan.client_chunk, "engine.block_rows": plan.block_rows}
    fields = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    words = [f"--config.{name}={value}" for name, value in fields.items()]
    folder = workdir / f"{point.number:03d}"
    return shlex.join([*given, *words, f"--workdir={folder}"])
