"""One experiment from config to report: the whole run, top to bottom."""

import pathlib
import statistics
import sys
import time

import jax
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from cachefl_jax import costs, interrupts
from cachefl_jax.config import resolve
from cachefl_jax.data.bank import SPLITS
from cachefl_jax.federation import ServerState, place
from cachefl_jax.precision import arithmetic
from cachefl_jax.report import method_table, write_report
from cachefl_jax.storage.checkpoint import open_checkpoints
from cachefl_jax.storage.home_entries import tidy_stores
from cachefl_jax.storage.locks import folder_lock
from cachefl_jax.storage.run_files import read_summary
from experiments.baselines import Surroundings, compare, result, round_flops, untuned_scores
from experiments.build import Learner, build, diverged, finite
from experiments.devices import (
    as_process_0_has_it,
    entered_by_process_0,
    in_any_process,
    leave_together,
    use_devices,
)
from experiments.engine import start_engine
from experiments.filling import Engine, needs_table
from experiments.made_of import files_of
from experiments.notes import tell
from experiments.pace import rounds_a_call
from experiments.plans import stored
from experiments.prepare import Inputs, card, counted, partition_arrays, prepare
from experiments.resume import resume
from experiments.workdir import Workdir


def train_and_evaluate(config: ConfigDict, path: pathlib.Path) -> dict:
    """Runs or resumes the experiment in the folder `path`; returns its summary.

    Raises:
        UsageError: the config is wrong, asks for what is not there, or the folder holds another run. Nothing has
            been written then.
    """
    config = resolve(config)
    workdir = Workdir(path)
    workdir.refuse_others(config)
    if workdir.finished(config):  # said without a lock, so that the folder may be one that is not to be written
        return already_done(config, workdir)
    workdir.refuse_read_only()
    use_devices(config.engine.devices)
    workdir.writes = jax.process_index() == 0
    with entered_by_process_0(folder_lock(path)):
        workdir.refuse_others(config)  # once more: another command may just have left
        if workdir.finished(config):
            return already_done(config, workdir)
        return train(config, workdir)


def already_done(config: ConfigDict, workdir: Workdir) -> dict:
    """Says so and returns the summary.

    Raises:
        UsageError: on other data than are there now.
    """
    workdir.check_done(config)
    print(f"{workdir.path}: already done; nothing to do")
    summary = read_summary(workdir.summary)
    announce(workdir.path, summary)
    return summary


def train(config: ConfigDict, workdir: Workdir) -> dict:
    """`train_and_evaluate` in a folder that is this process's own."""
    if workdir.writes:
        workdir.remove_leftovers()
        tidy_stores()
    files = files_of(config)  # before they are read: what changes meanwhile is noticed by the next start
    inputs = prepare(config)
    asked, config = config, counted(config, inputs)
    workdir.refuse_other_data(inputs.parts)
    learner = build(config, inputs, ordered=True)
    engine, state, trained = None, learner.start(), 0
    if "cachefl" in config.methods:
        state, trained = resume(learner, workdir)
        if trained < config.rounds:
            engine = start_engine(config, learner, workdir.engine)  # before anything is written: it may not fit
    made_of = {"parts": inputs.parts, "files": files}
    tell(inputs.told if workdir.writes else ())
    workdir.write_inputs(asked, partition_arrays(inputs), card(config, inputs), made_of)
    workdir.write_images(inputs.images)
    inputs = inputs._replace(images=None)  # what was drawn may be large
    workdir.write_cache(workdir.cache_init, inputs.keys, learner.problem.frozen, inputs.bank.class_names)

    results = compare(config, inputs, learner, Surroundings(workdir, engine))
    if "cachefl" in config.methods:
        state, records = run_rounds(config, learner, engine, workdir, state, trained)
        workdir.write_cache(workdir.cache, state.params.keys, learner.problem.frozen, inputs.bank.class_names)
        results["cachefl"] = federated_result(config, inputs, learner, records)
    summary = {
        "dataset": describe(config, inputs),
        "methods": {name: results[name] for name in config.methods},
        "whole_model": inputs.whole_model,
        "precision": arithmetic(),
        "notes": inputs.notes,
    }
    workdir.write_json(workdir.summary, summary)
    if workdir.writes:
        write_report([workdir.path])
        announce(workdir.path, summary)
    return summary


def rehearse(config: ConfigDict) -> None:
    """Prints what a run would need on each device, plan by plan, with nothing allocated there.

    The run's folder is left alone; what is drawn or encoded goes into the store, as a run's would.

    Raises:
        UsageError: as `train_and_evaluate`; a plan that does not fit is only told.
    """
    config = resolve(config)
    use_devices(config.engine.devices)
    inputs = prepare(config)
    config = counted(config, inputs)
    learner = build(config, inputs, ordered=True)
    tell(inputs.told)
    print(needs_table(config, learner))


def announce(path: pathlib.Path, summary: dict) -> None:
    print(method_table(summary))
    print(f"report: {(path / 'report.html').absolute()}")


def run_rounds(
    config: ConfigDict, learner: Learner, engine: Engine | None, workdir: Workdir, state: ServerState, start: int
) -> tuple[ServerState, list[dict]]:
    """The federation after its first `start` rounds; a line of metrics a round. No engine: nothing is left to train.

    Raises:
        Interrupted: a signal came; the last round that was done is saved.
    """
    if start:
        print(f"resuming after round {start} of {config.rounds}", file=sys.stderr)
        records = workdir.keep_metrics(start, config)
    else:
        records = workdir.keep_metrics(-1, config) + [first_record(config, learner)]
        workdir.append_metrics(records[-1:])
    if engine is None:
        return state, records
    if stored(workdir.engine) != engine.plan:
        workdir.write_json(workdir.engine, engine.record)
    state = place(state, engine.plan)
    number, pace = start, 1
    bar = tqdm(initial=start, total=config.rounds, desc="rounds", disable=None if workdir.writes else True)
    with interrupts.finishing(), bar, open_checkpoints(workdir.checkpoints) as checkpoints:
        while number < config.rounds:
            stop = min(next_act(config, number), number + pace, number + engine.capacity)
            state, new = some_rounds(config, learner, engine, state, number, stop)
            workdir.append_metrics(new)
            records += new
            number, pace = stop, rounds_a_call(new[-1]["seconds"])
            bar.update(len(new))
            if new[-1]["test_accuracy"] is not None:
                bar.set_postfix(test=f"{new[-1]['test_accuracy']:.3f}")
            leaving = in_any_process(interrupts.asked())
            if number % config.checkpoint_every == 0 or number == config.rounds or leaving:
                checkpoints.save(number, state)
            if leaving:
                leave_together(leaving)
    return state, records


def next_act(config: ConfigDict, number: int) -> int:
    """The next round after which something is evaluated or saved."""
    return min(
        config.rounds, *(number + every - number % every for every in (config.eval_every, config.checkpoint_every))
    )


def first_record(config: ConfigDict, learner: Learner) -> dict:
    """The line of round 0: the untuned cache, nothing sent."""
    test, validation = untuned_scores(config, learner)
    return {
        "round": 0, "test_accuracy": test, "validation_accuracy": validation, "train_loss": None,
        "bytes_up": 0, "bytes_down": 0, "seconds": 0.0, "cohort": 0,
    }  # fmt: skip


def some_rounds(
    config: ConfigDict, learner: Learner, engine: Engine, state: ServerState, number: int, stop: int
) -> tuple[ServerState, list[dict]]:
    """Trains the rounds after `number` up to `stop` as one program and says what they did.

    `seconds` is the training alone, not the evaluation: the mean of the rounds that one call has done.
    """
    size, payload = config.cohort or config.partition.clients, costs.tree_bytes(learner.params)
    began = time.perf_counter()
    state, metrics = engine.run(state, np.int32(stop - number), engine.problem)
    losses = np.asarray(metrics.train_loss)[: stop - number]
    seconds = as_process_0_has_it((time.perf_counter() - began) / (stop - number))
    # A round's loss tells of what came before it, the params at the end of the last round.
    sound = np.append(np.isfinite(losses), bool(metrics.finite))
    if not sound.all():
        raise diverged(config, f"round {min(number + 1 + int(np.argmin(sound)), stop)}")
    test = validation = None
    if stop % config.eval_every == 0 or stop == config.rounds:
        scores = learner.score(learner.accuracy, state.params)
        test, validation = finite(scores, diverged(config, f"round {stop}"))
    records = [
        {
            "round": number + 1 + place, "test_accuracy": None, "validation_accuracy": None, "train_loss": float(loss),
            "bytes_up": size * payload, "bytes_down": size * payload, "seconds": seconds, "cohort": size,
        }
        for place, loss in enumerate(losses)
    ]  # fmt: skip
    records[-1] |= {"test_accuracy": test, "validation_accuracy": validation}
    return state, records


def federated_result(config: ConfigDict, inputs: Inputs, learner: Learner, records: list[dict]) -> dict:
    """The last round's accuracy; seconds are the median over rounds without the first, which compiles."""
    payload, size = costs.tree_bytes(learner.params), config.cohort or config.partition.clients
    seconds = [record["seconds"] for record in records[2:]] or [record["seconds"] for record in records[1:]]
    return result(
        records[-1]["test_accuracy"], records[-1]["validation_accuracy"], rounds=config.rounds,
        up=payload, down=payload, total=2 * payload * size * config.rounds,
        flops=round_flops(config, inputs, len(inputs.bank.train.labels) / config.partition.clients),
        seconds=statistics.median(seconds) if seconds else None,
    )  # fmt: skip


def describe(config: ConfigDict, inputs: Inputs) -> dict:
    """summary.json's account of the data."""
    bank = inputs.bank
    splits = {name: getattr(bank, name) for name in SPLITS}
    rows = {name: len(split.labels) if split else 0 for name, split in splits.items()}
    return {
        "name": config.data.name, "class_names": list(bank.class_names), "classes": bank.classes,
        "features": bank.width, **rows, "clients": config.partition.clients,
    }  # fmt: skip
