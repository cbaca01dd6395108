"""One experiment from config to report: the whole run, top to bottom."""

import math
import pathlib
import statistics
import sys
import time

from ml_collections import ConfigDict
from tqdm import tqdm

from cachefl_jax import costs
from cachefl_jax.checkpoint import open_checkpoints, restore, rounds_saved
from cachefl_jax.config import resolve
from cachefl_jax.data.bank import SPLITS
from cachefl_jax.errors import UsageError
from cachefl_jax.federation import ServerState, draw_cohort, init_server
from cachefl_jax.files import read_json, write_json
from cachefl_jax.report import method_table, write_report
from experiments.baselines import compare, result, round_flops
from experiments.build import Learner, build, use_devices
from experiments.prepare import Inputs, partition_arrays, prepare
from experiments.workdir import Workdir, write_cache


def train_and_evaluate(config: ConfigDict, path: pathlib.Path) -> dict:
    """Runs or resumes the experiment in the folder `path`; returns its summary.

    Raises:
        UsageError: the config is wrong, asks for what is not there, or the folder holds another run. Nothing has
            been written then.
    """
    config = resolve(config)
    workdir = Workdir(path)
    workdir.refuse_others(config)
    if workdir.summary.is_file() and (path / "report.html").is_file():
        print(f"{path}: already done; nothing to do")
        return announce(path, read_json(workdir.summary))
    use_devices(config.engine.devices)
    inputs = prepare(config)
    learner = build(config, inputs)
    workdir.write_inputs(config, partition_arrays(inputs), inputs.images)
    write_cache(workdir.cache_init, inputs.keys, learner.frozen, inputs.bank.class_names)

    results = compare(config, inputs, learner, workdir)
    if "cachefl" in config.methods:
        state, records = run_rounds(config, learner, workdir)
        write_cache(workdir.cache, state.params.keys, learner.frozen, inputs.bank.class_names)
        results["cachefl"] = federated_result(config, inputs, learner, records)
    summary = {
        "dataset": describe(config, inputs),
        "methods": {name: results[name] for name in config.methods},
        "whole_model": inputs.whole_model,
        "notes": inputs.notes,
    }
    write_json(workdir.summary, summary)
    write_report([path])
    return announce(path, summary)


def announce(path: pathlib.Path, summary: dict) -> dict:
    print(method_table(summary))
    print(f"report: {(path / 'report.html').absolute()}")
    return summary


def run_rounds(config: ConfigDict, learner: Learner, workdir: Workdir) -> tuple[ServerState, list[dict]]:
    """The federation, from its last checkpoint if it has one; a line of metrics a round."""
    state = init_server(learner.params, learner.server_optimizer)
    start = max(rounds_saved(workdir.checkpoints), default=0)
    if start:
        state = restore(workdir.checkpoints, state, start)
        print(f"resuming after round {start} of {config.rounds}", file=sys.stderr)
    records = workdir.keep_metrics(start) if start else []
    if not start:
        records = workdir.keep_metrics(-1) + [first_record(learner)]
        workdir.append_metrics(records[-1])
    bar = tqdm(range(start, config.rounds), initial=start, total=config.rounds, desc="rounds", disable=None)
    with open_checkpoints(workdir.checkpoints) as checkpoints:
        for number in bar:
            state, record = one_round(config, learner, state, number)
            records.append(record)
            workdir.append_metrics(record)
            if record["test_accuracy"] is not None:
                bar.set_postfix(test=f"{record['test_accuracy']:.3f}")
            if record["round"] % config.checkpoint_every == 0 or record["round"] == config.rounds:
                checkpoints.save(record["round"], state)
    return state, records


def first_record(learner: Learner) -> dict:
    """The line of round 0: the untuned cache, nothing sent."""
    test, validation = learner.score(learner.bank, learner.accuracy, learner.params)
    return {
        "round": 0, "test_accuracy": test, "validation_accuracy": validation, "train_loss": None,
        "bytes_up": 0, "bytes_down": 0, "seconds": 0.0, "cohort": 0,
    }  # fmt: skip


def one_round(config: ConfigDict, learner: Learner, state: ServerState, number: int) -> tuple[ServerState, dict]:
    """Trains round `number` + 1 and says what it did. `seconds` is the training alone, not the evaluation."""
    cohort = draw_cohort(config.seed, number, config.partition.clients, config.cohort)
    size, payload = int(cohort.size), costs.tree_bytes(state.params)
    began = time.perf_counter()
    state, metrics = learner.round(
        state, cohort, learner.clients, learner.data, learner.frozen, learner.hyper, learner.key
    )
    loss = float(metrics.train_loss)
    seconds = time.perf_counter() - began
    if not math.isfinite(loss):
        allowed = f"a rate at which training stays finite (round {number + 1} did not)"
        raise UsageError("local.learning_rate", config.local.learning_rate, allowed, "lower it, or cache.alpha")
    test = validation = None
    if (number + 1) % config.eval_every == 0 or number + 1 == config.rounds:
        test, validation = learner.score(learner.bank, learner.accuracy, state.params)
    return state, {
        "round": number + 1, "test_accuracy": test, "validation_accuracy": validation, "train_loss": loss,
        "bytes_up": size * payload, "bytes_down": size * payload, "seconds": seconds, "cohort": size,
    }  # fmt: skip


def federated_result(config: ConfigDict, inputs: Inputs, learner: Learner, records: list[dict]) -> dict:
    """The last round's accuracy; seconds are the median over rounds without the first, which compiles."""
    payload = costs.tree_bytes(learner.params)
    seconds = [record["seconds"] for record in records[2:]] or [record["seconds"] for record in records[1:]]
    return result(
        records[-1]["test_accuracy"], records[-1]["validation_accuracy"], rounds=config.rounds,
        up=payload, down=payload, total=sum(record["bytes_up"] + record["bytes_down"] for record in records),
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
