"""Asked to leave by a signal, a command saves what it has, and the same command ends in the same bytes."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from cachefl_jax import interrupts
from cachefl_jax.config import default
from cachefl_jax.data import feature_blocks
from cachefl_jax.simulation import pace, rounds, sweep_groups, sweep_points, train
from cachefl_jax.storage.checkpoint import rounds_saved
from cachefl_jax.synthesis import Drawing, generator, request_of, store

FLAGS = ["--config.methods=('cachefl',)", "--config.local.learning_rate=0.0003", "--config.engine.devices=1"]


@pytest.fixture
def signals(monkeypatch):
    """No signal came yet; setting `number` is one that comes now."""
    monkeypatch.setattr(interrupts, "request", interrupts.Request())
    return interrupts.request


def small_config(bank):
    config = default()
    config.data.name, config.data.path, config.methods = "feature_bank", str(bank), ("cachefl",)
    config.partition.clients, config.partition.concentration, config.engine.devices = 5, 0.5, 1
    config.cache.keys_per_class, config.rounds, config.checkpoint_every, config.eval_every = 2, 8, 100, 2
    config.engine.strategy = "scan"
    return config


def test_a_run_saves_the_round_that_has_just_ended(make_bank, tmp_path, signals, monkeypatch):
    config, real = small_config(make_bank()), rounds.some_rounds
    train.train_and_evaluate(config, tmp_path / "whole")

    def some_rounds(config, learner, engine, state, number, stop):
        if number >= 3:
            signals.number = signal.SIGTERM
        return real(config, learner, engine, state, number, min(stop, number + 1))

    monkeypatch.setattr(rounds, "some_rounds", lambda *arguments: some_rounds(*arguments))
    monkeypatch.setattr(pace, "SECONDS_A_CALL", 0.0)  # one round a call
    with pytest.raises(interrupts.Interrupted):
        train.train_and_evaluate(config, tmp_path / "left")
    assert rounds_saved(tmp_path / "left" / "checkpoints") == [4]
    assert not (tmp_path / "left" / "summary.json").exists()
    signals.number = None
    monkeypatch.setattr(rounds, "some_rounds", real)
    train.train_and_evaluate(config, tmp_path / "left")
    whole, left = (tmp_path / name / "cache.safetensors" for name in ("whole", "left"))
    assert whole.read_bytes() == left.read_bytes()
    lines = [json.loads(line) for line in (tmp_path / "left" / "metrics.jsonl").read_text().splitlines()]
    assert [line["round"] for line in lines] == list(range(9))


@pytest.mark.quick
def test_a_sweep_leaves_between_its_batches(make_bank, tmp_path, signals, monkeypatch):
    overrides = [{"local.learning_rate": rate} for rate in (0.001, 0.002, 0.003)]
    configs = [small_config(make_bank()) for _ in overrides]
    for config, changes in zip(configs, overrides, strict=True):
        config.update_from_flattened_dict(changes)
    monkeypatch.setattr(sweep_groups, "BATCH_POINTS", 1)
    real, written = sweep_points.write_lines, []

    def write_lines(path, lines):
        real(path, lines)
        written.append(len(lines))
        signals.number = signal.SIGINT if len(written) == 2 else None

    monkeypatch.setattr(sweep_points, "write_lines", write_lines)
    with pytest.raises(interrupts.Interrupted):
        sweep_points.run_points(configs, overrides, tmp_path / "sweep", [], False)
    signals.number = None
    assert len((tmp_path / "sweep" / "results.jsonl").read_text().splitlines()) == 2
    assert len(sweep_points.run_points(configs, overrides, tmp_path / "sweep", [], False)) == 3
    assert written == [1, 2, 3]


def test_encoding_leaves_between_its_blocks_and_goes_on_there(tmp_path, signals):
    asked_from = []

    def blocks(start: int):
        asked_from.append(start)
        for row in range(start, 6, 2):
            signals.number = signal.SIGHUP if row == 2 and start == 0 else None
            yield np.full((2, 3), row, np.float32)

    with pytest.raises(interrupts.Interrupted):
        feature_blocks.write_blocks(tmp_path, (6,), blocks, "features")
    signals.number = None
    feature_blocks.write_blocks(tmp_path, (6,), blocks, "features")
    assert asked_from == [0, 4]
    assert np.load(tmp_path / feature_blocks.ARRAY)[:, 0].tolist() == [0, 0, 2, 2, 4, 4]


def test_drawing_leaves_between_its_blocks_and_goes_on_there(tmp_path, signals, monkeypatch):
    drawn = []

    @contextlib.contextmanager
    def drawing(pipeline, prompts, how):
        def draw(some, seeds):
            drawn.append(len(some))
            signals.number = signal.SIGTERM if len(drawn) == 2 else None
            images = [np.arange(48).reshape(4, 4, 3) + seed % 200 for seed in seeds]
            return np.stack(images).astype(np.uint8), np.zeros(len(seeds), bool)

        yield draw

    monkeypatch.setattr(generator, "drawing", drawing)
    asked = request_of("pocket", ("2", "7"), ("the digit {}.",), 24, Drawing(1, 1.0), seed=0)
    with pytest.raises(interrupts.Interrupted):
        store.obtain(asked, tmp_path)
    signals.number = None
    assert len(store.obtain(asked, tmp_path).images) == sum(drawn) == 48


def test_the_command_itself_leaves_with_one_line_and_a_checkpoint(make_bank, tmp_path):
    words = [sys.executable, "-m", "experiments.run", "--config=experiments/configs/feature_bank.py", *FLAGS]
    words += [f"--config.data.path={make_bank()}", "--config.rounds=100000", "--config.checkpoint_every=100000"]
    words += ["--config.engine.strategy=scan", f"--workdir={tmp_path / 'run'}"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    metrics, deadline = tmp_path / "run" / "metrics.jsonl", time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if metrics.is_file() and metrics.read_bytes().count(b"\n") > 5:
            break
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGTERM)
    out, errors = process.communicate(timeout=120)
    assert (process.returncode, out) == (143, ""), errors
    assert errors == f"SIGTERM: {interrupts.FINISHING}; {interrupts.HINT}\n"
    (saved,) = rounds_saved(tmp_path / "run" / "checkpoints")
    last = json.loads(metrics.read_text().splitlines()[-1])
    assert saved == last["round"]
