"""`cachefl predict`: the run's own answers, to the row, from its file alone."""

import csv
import functools
import json
import shutil

import jax
import numpy as np
import pytest
from command_line import assert_refused
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from cachefl_jax.config import changed, from_json, resolve, rows_of
from cachefl_jax.config.method import METHODS
from cachefl_jax.deploy.model import read_model
from cachefl_jax.deploy.predict import predict
from cachefl_jax.methods import find_method
from cachefl_jax.simulation.build import build
from cachefl_jax.simulation.contenders import config_of
from cachefl_jax.simulation.prepare import prepare
from cachefl_jax.simulation.regimes import Run, deployed, model_of
from cachefl_jax.simulation.workdir import Workdir
from cachefl_jax.storage.checkpoint import restore, rounds_saved
from cachefl_jax.storage.files import read_json

pytestmark = pytest.mark.quick


@pytest.fixture(scope="module")
def again(pictured):
    """(config, inputs) of the run, as its own command makes them."""
    config = resolve(from_json(read_json(pictured[0] / "config.json")))
    return config, prepare(config)


@pytest.fixture
def command(started):
    return functools.partial(started, "predict")


@pytest.fixture
def changed_model(pictured, tmp_path):
    """(arrays by name that are other, metadata that is other; None leaves one out) -> a model file."""

    def change(arrays=(), metadata=()):
        path = pictured[0] / "cache.safetensors"
        with safe_open(path, "numpy") as file:
            told = {**file.metadata(), **dict(metadata)}
        tensors = {**load_file(path), **dict(arrays)}
        kept = [{name: value for name, value in table.items() if value is not None} for table in (tensors, told)]
        save_file(kept[0], tmp_path / "model.safetensors", metadata=kept[1])
        return tmp_path / "model.safetensors"

    return change


def test_a_model_answers_as_in_its_run(pictured, again):
    """Each row has the class that the run's evaluation gave it, and the accuracy is that of summary.json."""
    config, inputs = again
    told = read_json(pictured[0] / "summary.json")["methods"]
    answers = set()
    for row in rows_of(config):
        folder, own = Workdir(pictured[0]).of(config, row), config_of(config, row)
        learner = build(own, inputs, name=row.method)
        state = restore(folder.checkpoints, learner.start(), max(rounds_saved(folder.checkpoints)))
        own_rows = learner.score.by_row(learner.method.logits)
        expected = jax.device_get(
            own_rows.scores(jax.device_get(state.params), learner.score.frozen, learner.score.test)
        )
        model = read_model(folder.path / learner.method.file)
        found = predict(model, inputs.bank.test.features, 2)
        np.testing.assert_array_equal(found.predicted, expected.predicted, row.name)
        assert (found.predicted == inputs.bank.test.labels).mean() == told[row.name]["test_accuracy"]
        logits = learner.method.logits(state.params, learner.score.frozen, learner.score.test)
        np.testing.assert_allclose(found.logits, logits, rtol=1e-5, atol=1e-5 * np.abs(logits).max(), err_msg=row.name)
        answers.add(found.logits.tobytes())
    assert len(answers) == len(rows_of(config))  # none stands for another


def test_the_command_answers_as_the_run_on_the_very_files(pictured, again, command):
    workdir, _ = pictured
    _, inputs = again
    split = inputs.source.test
    files = [split.images.name(row) for row in range(len(split.labels))]
    done = command(f"--model={workdir / 'cache.safetensors'}", *files, "--evaluate", "--nearest=2")
    assert done.returncode == 0, done.stderr
    table = list(csv.DictReader(done.stdout.splitlines()))
    expected = predict(read_model(workdir / "cache.safetensors"), inputs.bank.test.features)
    names = inputs.bank.class_names
    assert [line["file"] for line in table] == files
    assert [line["predicted"] for line in table] == [names[place] for place in expected.predicted]
    assert [line["label"] for line in table] == [names[label] for label in split.labels]
    found = np.array([[float(line[f"p_{name}"]) for name in names] for line in table])
    np.testing.assert_allclose(found, expected.probabilities, atol=1e-5)
    accuracy = read_json(workdir / "summary.json")["methods"]["cachefl"]["test_accuracy"]
    assert f"accuracy {accuracy:.4f}" in done.stderr


def test_images_of_no_class_are_told_and_not_counted(pictured, command, changed_model, tmp_path):
    """Folders may be called as the classes or as the run's data set calls theirs; the others are named with their
    number of images."""
    workdir, root = pictured
    for name, called in (("blue bar", "blue bar"), ("green disc", "GRUEN"), ("red square", "other")):
        shutil.copytree(root / name, tmp_path / "new" / called)
    model = changed_model({}, {"folder_names": json.dumps(["balken", "gruen", "rot"])})
    done = command(f"--model={model}", tmp_path / "new", "--evaluate", f"--output={tmp_path / 'found.json'}")
    assert done.returncode == 0, done.stderr
    table = json.loads((tmp_path / "found.json").read_text())
    assert [line["label"] for line in table] == ["green disc"] * 16 + ["blue bar"] * 16 + [None] * 16
    right = sum(line["label"] == line["predicted"] for line in table)
    assert f"accuracy {right / 32:.4f}: {right} of 32 images in 2 of the 3 folders" in done.stderr
    assert f"not scored: {tmp_path / 'new' / 'other'} (16 images)" in done.stderr
    words = f"--model={workdir / 'cache.safetensors'}", tmp_path / "new" / "other", "--evaluate"
    assert_refused(command(*words), "no such folder", "other")


def test_a_file_tells_what_its_data_set_calls_the_folders(again, tmp_path):
    config, inputs = again
    names = inputs.bank.class_names
    said = {"class_names": names, "folder_names": ["balken", "gruen", "rot"]}
    (tmp_path / "shapes.json").write_text(json.dumps(said))
    own = changed(config, {"data.name": str(tmp_path / "shapes.json")})
    told = [deployed(Run(each, inputs, None), "cachefl", ({}, {}))[1]["folder_names"] for each in (config, own)]
    assert told == [None, ["balken", "gruen", "rot"]]


def test_nearest_keys_are_those_of_the_largest_cosine(pictured, again):
    model = read_model(pictured[0] / "cache.safetensors")
    features, keys = again[1].bank.test.features, model.keys.reshape(-1, model.width)
    cosines = features @ keys.T / np.linalg.norm(keys, axis=1)
    found = predict(model, features, 3)
    np.testing.assert_array_equal(found.nearest[:, 0], cosines.argmax(axis=1))
    np.testing.assert_allclose(found.similarity, -np.sort(-cosines, axis=1)[:, :3], atol=1e-6)
    assert predict(model, features, 99).nearest.shape == (len(features), len(keys))


def test_a_folder_becomes_json_and_broken_images_are_told(pictured, command, tmp_path):
    workdir, root = pictured
    shutil.copytree(root / "blue bar", tmp_path / "new" / "deep")
    (tmp_path / "new" / "broken.png").write_bytes(b"no picture")
    words = (f"--model={workdir / 'cache.safetensors'}", tmp_path / "new", f"--output={tmp_path / 'found.json'}")
    assert_refused(command(*words), "broken.png", "--broken=skip")
    assert not (tmp_path / "found.json").exists()
    done = command(*words, "--broken=skip")
    assert done.returncode == 0
    assert "left out" in done.stderr
    table = json.loads((tmp_path / "found.json").read_text())
    assert len(table) == 16
    assert all(abs(sum(line["probabilities"].values()) - 1) < 1e-5 for line in table)
    assert [len(line["nearest"]) for line in table] == [3] * 16
    assert {"class", "key", "similarity"} == table[0]["nearest"][0].keys()


def test_features_are_taken_at_any_length(pictured, again, command, tmp_path):
    features = again[1].bank.test.features
    np.savez(tmp_path / "rows.npz", features=features * np.arange(1, len(features) + 1)[:, None])
    done = command(f"--model={pictured[0] / 'cache.safetensors'}", tmp_path / "rows.npz")
    table = list(csv.DictReader(done.stdout.splitlines()))
    expected = predict(read_model(pictured[0] / "cache.safetensors"), features)
    np.testing.assert_allclose([float(line["probability"]) for line in table], expected.probabilities.max(1), rtol=1e-5)
    assert table[1]["file"].endswith("rows.npz[1]")


def test_a_model_that_cannot_be_used_is_told_in_a_line(pictured, command, changed_model, tmp_path):
    picture = next(pictured[1].rglob("*.png"))
    (tmp_path / "cut.safetensors").write_bytes((pictured[0] / "cache.safetensors").read_bytes()[:500])
    save_file({"keys": np.zeros((1, 1, 1), np.float32)}, tmp_path / "other.safetensors")
    (tmp_path / "empty").mkdir()
    np.save(tmp_path / "wide.npy", np.ones((2, 3), np.float32))
    np.save(tmp_path / "whole.npy", np.ones((2, 3), int))
    nan = np.full((3, 2, 128), np.nan, np.float32)
    cases = [
        ((tmp_path / "cut.safetensors",), picture, "damaged"),
        ((tmp_path / "other.safetensors",), picture, "another kind"),
        ((tmp_path / "none.safetensors",), picture, "no such file"),
        ((changed_model, {"text": None}), picture, "no text"),
        ((changed_model, {}, {"method": None, "templates": None}), picture, "older version: no method"),
        ((changed_model, {}, {"method": '"os.path:join"'}), picture, "of the method os.path:join"),
        ((changed_model, {}, {"method": '"clip_adapter"'}), picture, "evaluate it"),
        ((changed_model, {}, {"alpha": None}), picture, "alpha"),
        ((changed_model, {}, {"class_names": '["a"]'}), picture, "1 class names"),
        ((changed_model, {}, {"class_names": '["a", "b", "a"]'}), picture, "twice"),
        ((changed_model, {"keys": nan}), picture, "finite"),
        ((changed_model, {"keys": np.zeros((3, 2, 9), np.float32)}), picture, "(3, 2, 9) beside"),
        ((changed_model, {}, {"weights_sha256": '"00"'}), picture, "--checkpoint"),
        ((changed_model, {}, {"weights_sha256": "null"}), picture, "feature bank"),
        ((changed_model, {}, {"checkpoint": '"/nowhere"'}), picture, "/nowhere"),
        ((changed_model,), tmp_path / "empty", "no images"),
        ((changed_model,), tmp_path / "none.png", "no such file"),
        ((changed_model,), tmp_path / "wide.npy", "(2, 3)"),
        ((changed_model,), tmp_path / "whole.npy", "int64"),
    ]
    for (model, *changes), path, words in cases:
        found = model(*changes) if callable(model) else model
        assert_refused(command(f"--model={found}", path), words)
    assert_refused(command(f"--model={pictured[0] / 'cache.safetensors'}"), "paths")


RESTORING = tuple(sorted(name for name in METHODS if find_method(name).restore))


@pytest.mark.parametrize("name", [name for name in RESTORING if name not in ("prompt_fl", "fed_tpg")])
def test_what_a_method_leaves_gives_its_logits(name, again):
    """Of params away from where they start; prompts, which need the text tower, are tested where they are tuned."""
    config, inputs = resolve(changed(again[0], {"compare": RESTORING})), again[1]
    learner, rng = build(config, inputs, name=name, clocked=False), np.random.default_rng(0)

    def move(leaf: np.ndarray) -> np.ndarray:
        return (leaf + 0.02 * max(np.abs(leaf).max(), 1) * rng.normal(size=leaf.shape)).astype(np.float32)

    params = jax.tree.map(move, learner.params)
    run = Run(config, inputs, None)
    arrays, told = deployed(run, name, model_of(run, learner, params)[1:])
    restored = learner.method.restore(arrays, json.loads(json.dumps(told)))
    rows = learner.score.test
    expected = learner.method.logits(params, learner.score.frozen, rows)
    found = restored.logits(restored.params, restored.frozen, rows._replace(text_logits=None))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    start = learner.method.logits(learner.params, learner.score.frozen, rows)
    assert np.abs(start - expected).max() > 1e-3 * np.abs(expected).max()  # what was moved is seen
