"""Whole runs on folders of images: what they leave, what they share, and what stops or goes on."""

import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

import cachefl_jax.clip
from cachefl_jax.commands.evaluate import evaluate
from cachefl_jax.commands.sweep import configs
from cachefl_jax.config import METHOD_NAMES
from cachefl_jax.data import folder as folders
from cachefl_jax.data.bank import Split
from cachefl_jax.data.partition import Partition, partition_hash
from cachefl_jax.errors import UsageError
from cachefl_jax.federation import Plan
from cachefl_jax.federation.run import train_rounds
from cachefl_jax.simulation import rounds, sweep_points
from cachefl_jax.simulation.build import build
from cachefl_jax.simulation.prepare import prepare
from cachefl_jax.simulation.train import rehearse, train_and_evaluate
from cachefl_jax.storage.entries import entries, faults
from cachefl_jax.storage.home import COMPILED

COUNTS = {"red square": 16, "green disc": 16, "blue bar": 16}


@pytest.fixture(scope="module")
def pictures(make_pictures, tmp_path_factory):
    """Three sites, one of which lacks a class, and one image that is none."""
    root = make_pictures(tmp_path_factory.mktemp("pictures"), COUNTS, sites=("east", "west"))
    make_pictures(root, {"red square": 6, "green disc": 6}, seed=1, sites=("north",))
    (root / "blue bar" / "east" / "broken.png").write_bytes(b"no image")
    return root


@pytest.fixture
def config_of(pictures, config_for_images):
    """(**changes) -> a config of the pictures without the broken one."""
    return lambda **changes: config_for_images(pictures, **({"data.broken": "skip"} | changes))


@pytest.fixture
def run(config_of, tmp_path):
    """(name of a workdir, **changes) -> (the workdir, its summary)."""
    return lambda name, **changes: (tmp_path / name, train_and_evaluate(config_of(**changes), tmp_path / name))


@pytest.fixture
def forbid_towers(monkeypatch):
    """Once it is called, whoever loads a model fails."""

    def refuse(*_):
        raise AssertionError("the towers were loaded")

    return lambda: monkeypatch.setattr(cachefl_jax.clip, "load_encoder", refuse, raising=False)


def read(path: pathlib.Path) -> dict:
    return json.loads(path.read_text())


def keys_of(workdir: pathlib.Path, name: str = "cache") -> np.ndarray:
    return load_file(workdir / f"{name}.safetensors")["keys"]


def metrics_of(workdir: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.quick
def test_a_folder_of_images_runs_from_pixels_to_a_report(run, capsys):
    workdir, summary = run("first", methods=METHOD_NAMES, rounds=5, **{"local.learning_rate": 0.01})
    assert {entry.name for entry in workdir.iterdir()} == {
        "config.json", "partition.json", "partition.npz", "images.npz", "metrics.jsonl", "summary.json",
        "cache_init.safetensors", "cache.safetensors", "checkpoints", "report.html", "baselines.json", "engine.json",
        "inputs.json",
    }  # fmt: skip
    assert tuple(summary["methods"]) == METHOD_NAMES
    assert summary["methods"]["cachefl"]["test_accuracy"] > 0.6  # a third is chance
    assert summary["dataset"]["class_names"] == ["blue bar", "green disc", "red square"]
    assert summary["whole_model"]["name"] == "pocket CLIP"
    card = read(workdir / "partition.json")
    with np.load(workdir / "partition.npz") as arrays:
        assert card["hash"] == partition_hash(Partition(arrays["offsets"], arrays["indices"]))
        assert arrays["class_counts"].sum() == summary["dataset"]["train"] == card["samples"]
    told = " ".join(summary["notes"])
    for words in ("No test split in the source: 0.2 of every class", "No validation split", "broken.png (no image)",
                  "The server's images are not generated: 3 real"):  # fmt: skip
        assert words in told
    page = (workdir / "report.html").read_text()
    for name in COUNTS:
        for count in (3, 8):  # the server's and a client's
            assert f'alt="{count} images of class {name}, ' in page
    for words in (card["hash"][:16], "dirichlet", "broken.png", "pocket CLIP"):
        assert words in page
    with np.load(workdir / "images.npz") as images:
        assert images["synthetic"].shape == (3, 3, 24, 24, 3)
    before = {file: file.stat().st_mtime_ns for file in workdir.rglob("*")}
    capsys.readouterr()
    assert run("first", methods=METHOD_NAMES, rounds=5, **{"local.learning_rate": 0.01})[1] == summary
    assert "already done" in capsys.readouterr().out
    assert before == {file: file.stat().st_mtime_ns for file in workdir.rglob("*")}


@pytest.mark.quick
def test_a_second_run_loads_no_towers_and_decodes_only_what_it_shows(run, forbid_towers, monkeypatch):
    first, _ = run("first")
    forbid_towers()
    decoded, real = [], folders.read_image
    monkeypatch.setattr(folders, "read_image", lambda path: decoded.append(path) or real(path))
    second, _ = run("second")
    for name in ("cache.safetensors", "cache_init.safetensors", "partition.npz", "images.npz", "partition.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    with np.load(first / "images.npz") as images:
        shown = sum(int(np.prod(images[name].shape[:2])) for name in ("synthetic", "real"))
    # The broken one is tried again: it may have been mended.
    assert sum(path.endswith("broken.png") for path in decoded) == 1
    assert len(decoded) == shown + 1


@pytest.mark.quick
def test_sites_are_as_many_clients_as_there_are_and_take_part_as_such(run):
    fields = {"data.group_column": "folder", "partition.name": "natural", "partition.clients": 0, "cohort": 2}
    workdir, summary = run("sites", **fields)
    card = read(workdir / "partition.json")
    assert summary["dataset"]["clients"] == card["clients"] == 3
    assert (card["scheme"], card["seed"]) == ("natural", None)
    assert card["client_names"] == ["east", "north", "west"]
    payload = 3 * 2 * summary["dataset"]["features"] * 4
    assert [(line["cohort"], line["bytes_up"]) for line in metrics_of(workdir)] == [(0, 0)] + [(2, 2 * payload)] * 2
    assert summary["methods"]["cachefl"]["total_bytes"] == 2 * 2 * 2 * payload
    assert read(workdir / "config.json")["partition"]["clients"] == 0  # as asked, so that the same command resumes
    assert run("sites", **fields)[1] == summary
    with np.load(workdir / "partition.npz") as arrays:
        assert (arrays["class_counts"] == 0).sum() == 1  # north has no blue bars


@pytest.mark.quick
def test_a_given_partition_is_that_of_the_run_that_it_comes_from(run):
    first, _ = run("first")
    fields = {"partition.name": "given", "partition.path": str(first / "partition.npz"), "partition.clients": 0}
    second, summary = run("second", **fields)
    assert summary["dataset"]["clients"] == 3
    assert read(first / "partition.json")["hash"] == read(second / "partition.json")["hash"]
    np.testing.assert_array_equal(keys_of(first), keys_of(second))


@pytest.mark.quick
def test_a_changed_look_is_told_and_trains_to_other_keys(run):
    plain, _ = run("plain")
    changed, _ = run("changed", **{"partition.change": "brightness", "partition.change_strength": 1.0})
    card = read(changed / "partition.json")
    assert (card["change"], card["change_strength"]) == ("brightness", 1.0)
    assert card["hash"] == read(plain / "partition.json")["hash"]
    assert "brightness, up to 1 of 1" in (changed / "report.html").read_text()
    np.testing.assert_array_equal(keys_of(plain, "cache_init"), keys_of(changed, "cache_init"))
    assert np.abs(keys_of(plain) - keys_of(changed)).max() > 1e-5
    first, other = (metrics_of(workdir)[0]["test_accuracy"] for workdir in (plain, changed))
    assert first == other


def reference(config) -> np.ndarray:
    """The keys of a run with two training views, from a federation whose bank is exchanged between the rounds."""
    inputs = prepare(config)
    single = config.copy_and_resolve_references()
    single.clip.train_views = 0
    state = None
    for number in range(config.rounds):
        features = inputs.bank.train_views[number % 2]
        bank = inputs.bank._replace(train=Split(features, inputs.bank.train.labels), train_views=None)
        learner = build(single, inputs._replace(bank=bank))
        state = learner.start() if state is None else state
        round_of = jax.jit(
            lambda state, problem, federation=learner.federation: train_rounds(
                federation, Plan("scan"), 1, state, jnp.asarray(1), problem
            )
        )
        state, _ = round_of(state, jax.device_put(learner.problem))
    return np.asarray(state.params.keys)


def test_views_take_turns_by_round_whatever_the_engine(run, config_of):
    fields = {"clip.train_views": 2, "rounds": 3, "local.optimizer": "sgd", "local.learning_rate": 0.05}
    scan, _ = run("scan", **fields)
    np.testing.assert_array_equal(keys_of(scan), reference(config_of(**fields)))
    dual, _ = run("dual", **fields, **{"engine.strategy": "dual"})
    np.testing.assert_allclose(keys_of(dual), keys_of(scan), atol=1e-5)
    plain, _ = run("plain", **(fields | {"clip.train_views": 0}))
    assert np.abs(keys_of(plain) - keys_of(scan)).max() > 1e-4


def test_a_run_with_views_that_was_stopped_goes_on_with_the_right_view(run, monkeypatch):
    fields = {"clip.train_views": 2, "clip.key_views": 3, "rounds": 5, "checkpoint_every": 1}
    whole, _ = run("whole", **fields)
    real = rounds.some_rounds

    def stopping(config, learner, engine, state, number, stop):
        if number == 3:
            raise KeyboardInterrupt
        return real(config, learner, engine, state, number, stop)

    monkeypatch.setattr(rounds, "some_rounds", stopping)
    with pytest.raises(KeyboardInterrupt):
        run("twice", **fields)
    monkeypatch.setattr(rounds, "some_rounds", real)
    twice, _ = run("twice", **fields)
    for name in ("cache.safetensors", "cache_init.safetensors", "images.npz"):
        assert (whole / name).read_bytes() == (twice / name).read_bytes()


@pytest.mark.quick
def test_a_run_whose_images_became_more_since_it_was_stopped_is_refused(make_pictures, config_for_images, tmp_path):
    root = make_pictures(tmp_path / "pictures", dict.fromkeys(COUNTS, 8))
    train_and_evaluate(config_for_images(root), tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()  # as if it had been stopped
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "run").rglob("*")}
    make_pictures(root / "more", {"red square": 2}, seed=1)
    (root / "more" / "red square").rename(root / "red square" / "more")
    (root / "more").rmdir()
    with pytest.raises(
        UsageError, match=r"--workdir: got .*on other data \(partition .*; training images .*bring the data back"
    ):
        train_and_evaluate(config_for_images(root), tmp_path / "run")
    assert before == {file: file.stat().st_mtime_ns for file in (tmp_path / "run").rglob("*")}


@pytest.mark.quick
def test_a_run_whose_images_were_changed_since_it_was_stopped_is_refused(make_pictures, config_for_images, tmp_path):
    root = make_pictures(tmp_path / "pictures", dict.fromkeys(COUNTS, 8))
    train_and_evaluate(config_for_images(root), tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    for path in root.rglob("*.png"):
        os.utime(path, ns=(0, 10**18))
    with pytest.raises(
        UsageError, match=r"--workdir: got .*on other data \(training images .*, now .*bring the data back"
    ):
        train_and_evaluate(config_for_images(root), tmp_path / "run")


@pytest.mark.quick
def test_views_of_the_servers_images_make_other_keys(run):
    plain, views = (keys_of(run(f"{count}", rounds=0, **{"clip.key_views": count})[0]) for count in (0, 3))
    assert np.abs(plain - views).max() > 1e-3


@pytest.mark.quick
def test_a_run_in_bfloat16_starts_from_nearly_the_keys_of_float32(run):
    wide, narrow = (keys_of(run(name, **{"clip.dtype": name})[0], "cache_init") for name in ("float32", "bfloat16"))
    cosines = (wide * narrow).sum(axis=-1)
    assert 0.999 < cosines.min() < 1


def test_a_sweep_over_images_ends_in_the_keys_of_single_runs(config_of, run, tmp_path, monkeypatch):
    prepared, real = [], sweep_points.prepare
    monkeypatch.setattr(sweep_points, "prepare", lambda config: prepared.append(config) or real(config))
    overrides = [
        {"partition.concentration": concentration, "cache.alpha": alpha}
        for concentration in (0.3, 3.0) for alpha in (1.0, 5.0)
    ]  # fmt: skip
    points = list(configs(config_of(), overrides))
    lines = sweep_points.run_points(points, overrides, tmp_path / "sweep", ["--config=mine.py"], False)
    assert len(prepared) == 2  # alpha changes no input
    assert len({line["keys_sha256"] for line in lines}) == 4
    for line, changes in zip(lines, overrides, strict=True):
        workdir, summary = run(f"point {line['point']}", **changes)
        assert hashlib.sha256(keys_of(workdir).tobytes()).hexdigest() == line["keys_sha256"]
        assert summary["methods"]["cachefl"]["test_accuracy"] == line["methods"]["cachefl"]["test_accuracy"]


def test_a_checkpoint_of_images_evaluates_to_its_metrics(run, config_of, forbid_towers):
    workdir, _ = run("run", checkpoint_every=1)
    before = {file: file.stat().st_mtime_ns for file in workdir.rglob("*")}
    forbid_towers()
    for number in (1, 2):
        found, line = evaluate(config_of(checkpoint_every=1), workdir, number), metrics_of(workdir)[number]
        assert [found[name] for name in ("test_accuracy", "validation_accuracy")] == [
            line[name] for name in ("test_accuracy", "validation_accuracy")
        ]
    assert before == {file: file.stat().st_mtime_ns for file in workdir.rglob("*")}


@pytest.mark.quick
def test_a_rehearsal_tells_the_bytes_and_leaves_no_workdir(config_of, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    fields = {"data.group_column": "folder", "partition.name": "natural", "partition.clients": 0}
    rehearse(config_of(**fields))
    assert "optimizer_state" in capsys.readouterr().out
    assert not any(tmp_path.iterdir())


def test_killed_while_encoding_it_goes_on_to_the_same_features(make_pictures, start, tmp_path):
    """SIGKILL in the midst of the training images, which are the many; both stores hold the same bytes at the end."""
    root = make_pictures(tmp_path / "pictures", dict.fromkeys(COUNTS, 400))
    words = ["--config=experiments/configs/images.py:image_folder", f"--config.data.path={root}"]
    words += ["--config.data.shots=0", "--config.synthesis.source=held_out"]
    words += ["--config.clip.checkpoint=pocket", "--config.clip.key_views=0", "--config.clip.batch_size=16"]
    words += ["--config.rounds=1", "--config.methods=('cachefl',)", f"--workdir={tmp_path / 'run'}"]
    homes = {name: tmp_path / name for name in ("killed", "whole")}
    for home in homes.values():
        home.mkdir()
        (home / COMPILED).symlink_to(jax.config.jax_compilation_cache_dir)  # compiling once is enough
    command, environment = [sys.executable, "-m", "experiments.run", *words], {"CACHEFL_HOME": str(homes["killed"])}
    victim = subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    partial = None
    while time.monotonic() < deadline and victim.poll() is None and not partial:
        found = (tmp_path / "killed" / "features").glob(".*.partial/features.npy")
        partial = next((file for file in found if file.stat().st_size > 2**16), None)
        time.sleep(0.001)
    os.kill(victim.pid, signal.SIGKILL)
    victim.communicate()
    assert partial is not None
    assert partial.is_file()
    assert not (tmp_path / "run" / "config.json").exists()
    for name, home in homes.items():
        done = start(*words, CACHEFL_HOME=str(home))
        assert done.returncode == 0, done.stderr
        assert ("image_folder, train: going on at row" in done.stderr) == (name == "killed")
        (tmp_path / "run").rename(tmp_path / f"run of {name}")
    killed, whole = ({entry.folder.name: entry for entry in entries(home)} for home in homes.values())
    assert killed.keys() == whole.keys()
    assert len(killed) == 5  # four splits and the texts
    for name, entry in killed.items():
        assert entry.whole
        assert not faults(entry)
        assert entry.manifest["arrays"] == whole[name].manifest["arrays"]  # shapes and sha256
    keys = [(tmp_path / f"run of {home}" / "cache.safetensors").read_bytes() for home in homes]
    assert keys[0] == keys[1]
