"""The programs of docs/deploy.md run as they are written and give the package's own probabilities."""

import pathlib
import re

import numpy as np
import pytest

from cachefl_jax.clip.checkpoint import POCKET
from cachefl_jax.deploy.model import read_model
from cachefl_jax.deploy.onnx_graph import export
from cachefl_jax.deploy.pictures import features_of, find_images
from cachefl_jax.deploy.predict import predict

pytestmark = [pytest.mark.quick, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "deploy.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_each_program_gives_the_probabilities_of_predict(pictured, tmp_path):
    path = pictured[0] / "cache.safetensors"
    model, files = read_model(path), find_images([str(pictured[1])])[::5]
    features = features_of(model, files)
    graph = tmp_path / "cache.onnx"
    export(model, graph)
    expected = predict(model, features).probabilities
    given = {"cache": path, "checkpoint": POCKET, "files": files, "features": features, "graph": graph}
    assert len(PROGRAMS) == 3
    for program in PROGRAMS:
        assert program.count("\n") <= 15
        world = dict(given)
        exec(program, world)
        np.testing.assert_allclose(np.asarray(world["probabilities"]), expected, atol=1e-5)
    assert np.ptp(expected) > 0.2
