"""A whole run on a feature bank: what it leaves, and what a kill, a second start or another config does to it."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from cachefl_jax import __version__
from cachefl_jax.commands.evaluate import evaluate
from cachefl_jax.config import METHOD_NAMES, default, from_json
from cachefl_jax.data import load_bank
from cachefl_jax.errors import UsageError
from cachefl_jax.simulation import rounds
from cachefl_jax.simulation.train import train_and_evaluate


def config_for(bank, **changes):
    config = default()
    config.data.name, config.data.path = "feature_bank", str(bank)
    config.partition.clients, config.partition.concentration = 5, 0.5
    config.cache.keys_per_class, config.rounds, config.checkpoint_every, config.engine.devices = 2, 6, 3, 1
    config.update_from_flattened_dict(changes)
    return config


@pytest.fixture
def stop_after(monkeypatch):
    """Makes training stop, as by Ctrl-C, before round `number` + 1."""

    real = rounds.some_rounds

    def stop(number: int) -> None:
        def some_rounds(config, learner, engine, state, current, until):
            if current == number:
                raise KeyboardInterrupt
            return real(config, learner, engine, state, current, until)

        monkeypatch.setattr(rounds, "some_rounds", some_rounds)

    yield stop
    monkeypatch.undo()


def test_a_setting_that_does_nothing_is_told_and_stands_in_the_notes(make_bank, tmp_path, capsys):
    config = config_for(make_bank(), **{"local.momentum": 0.9, "rounds": 0, "methods": ("cache_init",)})
    note = "local.momentum=0.9 does nothing under local.optimizer=adamw."
    assert note in train_and_evaluate(config, tmp_path / "run")["notes"]
    assert f"note: {note}" in capsys.readouterr().err


@pytest.mark.quick
def test_a_run_leaves_what_the_contract_lists(make_bank, tmp_path):
    workdir = tmp_path / "run"
    summary = train_and_evaluate(config_for(make_bank()), workdir)
    names = {entry.name for entry in workdir.iterdir()}
    assert names == {
        "config.json", "partition.json", "partition.npz", "metrics.jsonl", "summary.json", "cache_init.safetensors",
        "cache.safetensors", "checkpoints", "report.html", "baselines.json", "engine.json", "inputs.json",
    }  # fmt: skip
    assert summary == json.loads((workdir / "summary.json").read_text())
    assert tuple(summary["methods"]) == METHOD_NAMES
    payload = 4 * 2 * 8 * 4  # N K D floats of four bytes
    cachefl = summary["methods"]["cachefl"]
    assert cachefl["uplink_bytes_per_client_round"] == cachefl["downlink_bytes_per_client_round"] == payload
    assert cachefl["total_bytes"] == 2 * payload * 5 * 6
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [line["round"] for line in lines] == list(range(7))
    assert all(line["bytes_up"] == 5 * payload for line in lines[1:])
    assert lines[0]["test_accuracy"] == pytest.approx(summary["methods"]["cache_init"]["test_accuracy"])
    assert lines[-1]["test_accuracy"] == cachefl["test_accuracy"]
    with np.load(workdir / "partition.npz") as partition:
        assert sorted(partition["indices"]) == list(range(60))
        assert partition["class_counts"].sum() == 60


@pytest.mark.quick
def test_the_artefact_is_keys_and_what_the_formula_needs(make_bank, tmp_path):
    bank = make_bank(class_names=np.array(["ant", "bee", "cat", "dog"]), metadata='{"logit_scale": 20}')
    train_and_evaluate(config_for(bank, **{"cache.alpha": 1.17, "rounds": 1}), tmp_path / "run")
    for name in ("cache_init", "cache"):
        with safe_open(tmp_path / "run" / f"{name}.safetensors", "np") as file:
            metadata = {key: json.loads(value) for key, value in file.metadata().items()}
            assert file.get_tensor("keys").shape == (4, 2, 8)
            assert file.get_tensor("keys").dtype == np.float32
            np.testing.assert_array_equal(file.get_tensor("text"), load_bank(bank).text_features)
        names = ["ant", "bee", "cat", "dog"]
        assert metadata == {
            "alpha": 1.17, "beta": 5.0, "logit_scale": 20.0, "class_names": names, "method": "cachefl",
            "data": {"name": "feature_bank", "rows": 60}, "version": __version__, "checkpoint": None,
            "weights_sha256": None, "preparation": None, "precision": None, "templates": None,
            "folder_names": None,
        }  # fmt: skip


def test_stopped_and_resumed_gives_the_same_bytes(make_bank, tmp_path, stop_after):
    changes = {"server.optimizer": "adam", "server.learning_rate": 0.01, "engine.devices": 4}
    config = config_for(make_bank(), cohort=3, **changes)
    train_and_evaluate(config, tmp_path / "at_once")
    stop_after(4)
    with pytest.raises(KeyboardInterrupt):
        train_and_evaluate(config, tmp_path / "twice")
    assert not (tmp_path / "twice" / "summary.json").exists()
    stop_after(-1)
    train_and_evaluate(config, tmp_path / "twice")
    for name in ("cache.safetensors", "cache_init.safetensors", "partition.npz"):
        assert (tmp_path / "at_once" / name).read_bytes() == (tmp_path / "twice" / name).read_bytes()
    rounds = [json.loads(line)["round"] for line in (tmp_path / "twice" / "metrics.jsonl").read_text().splitlines()]
    assert rounds == list(range(7))


def test_a_killed_process_resumes_to_the_same_bytes(make_bank, start, tmp_path):
    """SIGKILL at an arbitrary moment of training: the real thing, not an exception."""
    bank, rounds = make_bank(), 150
    flags = [f"--config.data.path={bank}", f"--config.rounds={rounds}", "--config.checkpoint_every=20"]
    flags += ["--config.methods=('cachefl',)", "--config.local.learning_rate=0.0003"]
    words = ["--config=experiments/configs/feature_bank.py", *flags]
    command = [sys.executable, "-m", "experiments.run", *words, f"--workdir={tmp_path / 'killed'}"]
    victim = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    metrics = tmp_path / "killed" / "metrics.jsonl"
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and victim.poll() is None:
        if metrics.is_file() and metrics.read_bytes().count(b"\n") > 30:
            break
        time.sleep(0.002)
    os.kill(victim.pid, signal.SIGKILL)
    victim.communicate()
    assert victim.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "summary.json").exists()
    for folder in ("killed", "whole"):
        done = start(*words, f"--workdir={tmp_path / folder}")
        assert done.returncode == 0, done.stderr
        assert ("resuming after round" in done.stderr) == (folder == "killed")
    killed, whole = ((tmp_path / folder / "cache.safetensors").read_bytes() for folder in ("killed", "whole"))
    assert killed == whole


@pytest.mark.quick
def test_the_same_command_again_says_that_it_is_done(make_bank, tmp_path, capsys):
    config = config_for(make_bank(), rounds=1)
    first = train_and_evaluate(config, tmp_path / "run")
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "run").rglob("*")}
    capsys.readouterr()
    assert train_and_evaluate(config, tmp_path / "run") == first
    assert "already done" in capsys.readouterr().out
    assert before == {file: file.stat().st_mtime_ns for file in (tmp_path / "run").rglob("*")}


@pytest.mark.quick
def test_another_config_is_refused_and_the_fields_are_named(make_bank, tmp_path):
    bank = make_bank()
    train_and_evaluate(config_for(bank, rounds=1), tmp_path / "run")
    changed = config_for(bank, rounds=2, **{"cache.alpha": 2.0})
    with pytest.raises(UsageError, match=r"cache.alpha 1.0 there, 2.0 here, rounds 1 there, 2 here"):
        train_and_evaluate(changed, tmp_path / "run")


@pytest.mark.quick
def test_without_text_the_zero_shot_term_is_zero_and_the_report_says_so(make_bank, tmp_path):
    summary = train_and_evaluate(config_for(make_bank(text_features=None), rounds=2), tmp_path / "run")
    assert summary["methods"]["zero_shot"]["test_accuracy"] is None
    assert summary["methods"]["cachefl"]["test_accuracy"] > 0.5
    assert "no text features" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.quick
def test_without_validation_rows_a_run_still_works(make_bank, tmp_path):
    bank = make_bank(val_features=None, val_labels=None)
    summary = train_and_evaluate(config_for(bank, rounds=1, **{"data.validation_share": 0.0}), tmp_path / "run")
    assert summary["methods"]["cachefl"]["validation_accuracy"] is None


@pytest.mark.quick
def test_fedadam_by_its_own_numbers_never_falls_below_round_0(make_bank, tmp_path):
    changes = {"server.optimizer": "adam", "cache.alpha": 30.0, "rounds": 20, "methods": ("cachefl",)}
    train_and_evaluate(config_for(make_bank(), **changes), tmp_path / "run")
    told = json.loads((tmp_path / "run" / "config.json").read_text())["server"]
    assert (told["optimizer"], told["learning_rate"], told["momentum"]) == ("adam", 3e-3, 0.9)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    accuracies = [line["test_accuracy"] for line in lines]
    assert min(accuracies) == accuracies[0]  # with FedAvg's 1.0 and 0.0 it falls by 15 points in round 1


@pytest.mark.quick
def test_no_rounds_leave_the_cache_as_it_was(make_bank, tmp_path):
    summary = train_and_evaluate(config_for(make_bank(), rounds=0), tmp_path / "run")
    methods = summary["methods"]
    assert methods["cachefl"]["test_accuracy"] == methods["cache_init"]["test_accuracy"]
    before, after = (load_file(tmp_path / "run" / f"{name}.safetensors")["keys"] for name in ("cache_init", "cache"))
    assert np.array_equal(before, after)


@pytest.mark.quick
def test_training_that_diverges_stops_with_the_mend(make_bank, tmp_path):
    changes = {"local.optimizer": "sgd", "local.learning_rate": 1e6, "cache.alpha": 1e4, "methods": ("cachefl",)}
    with pytest.raises(UsageError, match=r"local.learning_rate: got 1000000.0.*stays finite"):
        train_and_evaluate(config_for(make_bank(), **changes), tmp_path / "run")
    assert not (tmp_path / "run" / "cache.safetensors").exists()


def test_a_saved_round_evaluates_to_its_metrics_and_one_that_is_missing_or_does_not_fit_is_refused(make_bank, tmp_path):
    config = config_for(make_bank())
    train_and_evaluate(config, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    for number in (3, 6):
        found = evaluate(config, tmp_path / "run", number)
        assert found["test_accuracy"] == lines[number]["test_accuracy"]
        assert found["validation_accuracy"] == lines[number]["validation_accuracy"]
    assert evaluate(config, tmp_path / "run", None)["round"] == 6
    with pytest.raises(UsageError, match=r"round: got 4; allowed: .*3, 6"):
        evaluate(config, tmp_path / "run", 4)
    with pytest.raises(UsageError, match=r"checkpoint: got .*\(4, 2, 8\).*allowed: arrays .*\(4, 1, 8\)"):
        evaluate(config_for(config.data.path, **{"cache.keys_per_class": 1}), tmp_path / "run", 6)


@pytest.mark.quick
def test_a_config_survives_its_json(make_bank, tmp_path):
    config = config_for(make_bank(), rounds=0)
    train_and_evaluate(config, tmp_path / "run")
    back = from_json(json.loads((tmp_path / "run" / "config.json").read_text()))
    assert back.methods == METHOD_NAMES
    assert back.cache.alpha == config.cache.alpha


@pytest.mark.quick
def test_four_devices_give_the_keys_of_one_and_more_than_there_are_is_refused(make_bank, tmp_path):
    bank, keys = make_bank(), {}
    for devices in (1, 4):
        config = config_for(bank, rounds=3, methods=("cachefl",), **{"engine.devices": devices})
        train_and_evaluate(config, tmp_path / str(devices))
        keys[devices] = load_file(tmp_path / str(devices) / "cache.safetensors")["keys"]
    assert np.abs(keys[4] - keys[1]).max() < 1e-6
    with pytest.raises(UsageError, match=r"engine.devices: got 5; allowed: 0 to 4"):
        train_and_evaluate(config_for(bank, **{"engine.devices": 5}), tmp_path / "5")
    assert not (tmp_path / "5").exists()


@pytest.mark.quick
def test_a_partial_cohort_sends_fewer_bytes(make_bank, tmp_path):
    config = config_for(make_bank(), cohort=2, rounds=3, methods=("cachefl",))
    summary = train_and_evaluate(config, tmp_path / "run")
    assert summary["methods"]["cachefl"]["total_bytes"] == 2 * (4 * 2 * 8 * 4) * 2 * 3


@pytest.mark.quick
def test_the_partition_that_the_config_names_is_the_one_that_trains(make_bank, tmp_path):
    for name in ("iid", "pathological"):
        config = config_for(make_bank(), rounds=1, methods=("cachefl",), **{"partition.name": name})
        train_and_evaluate(config, tmp_path / name)
        with np.load(tmp_path / name / "partition.npz") as partition:
            held, sizes = (partition["class_counts"] > 0).sum(axis=1), np.diff(partition["offsets"])
        if name == "iid":
            assert set(sizes) == {12}
        else:
            assert held.max() == 2


def test_real_clip_features_reach_the_promised_accuracy(real_bank, tmp_path):
    """10 clients, Dirichlet 0.1, 20 rounds; zero-shot is the bank's known 94.5."""
    from experiments.configs.feature_bank import get_config

    config = get_config()
    config.data.path, config.methods = str(real_bank("caltech101_68")), ("zero_shot", "cachefl")
    methods = train_and_evaluate(config, tmp_path / "run")["methods"]
    assert methods["zero_shot"]["test_accuracy"] == pytest.approx(0.945, abs=1e-3)
    assert methods["cachefl"]["test_accuracy"] >= 0.963
