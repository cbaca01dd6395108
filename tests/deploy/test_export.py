"""`cachefl export`: ONNX Runtime gives the logits of the run's own code."""

import json
import sys

import numpy as np
import onnxruntime
import pytest
from command_line import assert_refused

from cachefl_jax.clip.images import prepare
from cachefl_jax.config import from_json, rows_of
from cachefl_jax.deploy.model import read_model
from cachefl_jax.deploy.onnx_graph import export
from cachefl_jax.deploy.pictures import features_of, find_images, images_of
from cachefl_jax.deploy.predict import predict
from cachefl_jax.errors import UsageError
from cachefl_jax.methods import find_method
from cachefl_jax.simulation.workdir import Workdir
from cachefl_jax.storage.files import read_json

pytestmark = pytest.mark.quick


def worst(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference as a share of the largest logit."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def test_every_method_gives_its_logits_from_features_of_any_length(pictured, tmp_path):
    rng = np.random.default_rng(0)
    config = from_json(read_json(pictured[0] / "config.json"))
    for row in rows_of(config):
        path = Workdir(pictured[0]).of(config, row).path / find_method(row.method).file
        model = read_model(path)
        export(model, tmp_path / "model.onnx")
        session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
        for count in (1, 7):
            features = rng.normal(size=(count, model.width)).astype(np.float32)
            logits, probabilities = session.run(None, {"features": features})
            expected = predict(model, features)
            assert worst(logits, expected.logits) < 1e-5, row.name
            np.testing.assert_allclose(probabilities, expected.probabilities, atol=1e-5)
        told = session.get_modelmeta().custom_metadata_map
        assert json.loads(told["class_names"]) == list(model.class_names)


def test_the_tower_in_front_gives_the_same_from_pixels(pictured, tmp_path):
    model = read_model(pictured[0] / "cache.safetensors")
    files = find_images([str(pictured[1])])[::7]
    export(model, tmp_path / "whole.onnx", tower=True)
    session = onnxruntime.InferenceSession(tmp_path / "whole.onnx", providers=["CPUExecutionProvider"])
    pixels = np.stack([prepare(image, model.preparation) for image in images_of(files)]).transpose(0, 3, 1, 2)
    expected = predict(model, features_of(model, files))
    assert worst(session.run(["logits"], {"pixel_values": pixels})[0], expected.logits) < 1e-5
    assert session.run(["logits"], {"pixel_values": pixels[:1]})[0].shape == (1, 3)


def test_what_cannot_be_exported_is_told(pictured, tmp_path, monkeypatch):
    model = read_model(pictured[0] / "cache.safetensors")
    with pytest.raises(UsageError, match="name where /nowhere lies now"):
        export(model, tmp_path / "x.onnx", True, "/nowhere")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UsageError, match=r"pip install 'cachefl_jax\[onnx\]'"):
        export(model, tmp_path / "x.onnx")
    assert not (tmp_path / "x.onnx").exists()


def test_the_command_writes_a_graph_or_tells_in_a_line(pictured, started, tmp_path):
    model, output = f"--model={pictured[0] / 'cache.safetensors'}", tmp_path / "model.onnx"
    done = started("export", model, f"--output={output}")
    assert (done.returncode, done.stdout) == (0, f"{output}\n"), done.stderr
    export(read_model(pictured[0] / "cache.safetensors"), tmp_path / "again.onnx")
    assert output.read_bytes() == (tmp_path / "again.onnx").read_bytes()
    assert_refused(started("export", model, f"--output={tmp_path / 'model.txt'}"), ".onnx")
    assert_refused(started("export", model, f"--output={output}", "--tower", "--checkpoint=/nowhere"), "--checkpoint")
