"""A model as an ONNX graph, from features or, with its image tower, from prepared pixels.

Axis letters: n rows, N classes, K keys a class, D features, H W image.
"""

import contextlib
import json
import logging
import pathlib
import tempfile
import warnings
from collections.abc import Iterator

import numpy as np

from cachefl_jax.clip.checkpoint import is_open_clip
from cachefl_jax.deploy.model import FIELD, Model
from cachefl_jax.deploy.pictures import checked_directory
from cachefl_jax.deploy.predict import compute
from cachefl_jax.errors import UsageError

OPSET, IR = 18, 10  # what ONNX Runtime has run since 1.15 and 1.18
INSTALL = "pip install 'cachefl_jax[onnx]'"
OUTPUTS = ("logits", "probabilities")
PARTS = "onnx, torch and transformers"


def export(model: Model, output: pathlib.Path, tower: bool = False, checkpoint: str | None = None) -> None:
    """Writes features [n, D] of any length -> logits [n, N] and probabilities [n, N]; with the `tower`, pixel_values
    [n, 3, H, W] take the features' place: images prepared and normalised as the checkpoint's own processor does.

    Raises UsageError: ONNX is not installed, the model has no such graph, or the checkpoint has no tower for it."""
    with wanting("onnx"):
        import onnx

    whole = head_graph(model)
    if tower:
        whole = onnx.compose.merge_models(tower_graph(model, checkpoint), whole, io_map=[("features", "features")])
    onnx.checker.check_model(whole, full_check=True)
    from cachefl_jax.storage.files import write_whole

    write_whole(output, lambda file: file.write(whole.SerializeToString()))


@contextlib.contextmanager
def wanting(name: str) -> Iterator[None]:
    """A missing package is told in a line. Raises UsageError: it is not installed."""
    try:
        yield
    except ImportError as error:
        raise UsageError("export", f"no {error.name or name}", PARTS, INSTALL) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what transformers and PyTorch's exporter tell of the text tower, which is not read, and of themselves."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def head_graph(model: Model):
    """features [n, D] -> logits and probabilities, by hand from the formula. Raises UsageError: as `linear_head`."""
    from onnx import TensorProto, helper, numpy_helper

    cache = model.keys is not None
    nodes = [
        helper.make_node("ReduceL2", ["features", "axis"], ["length"], keepdims=1),
        helper.make_node("Div", ["features", "length"], ["unit"]),
    ]
    made, constants = cache_head(model) if cache else linear_head(model)
    nodes += [helper.make_node(kind, given, [name], **how) for kind, given, name, how in made]
    nodes.append(helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1))
    constants["axis"] = np.array([1], np.int64)
    classes = len(model.class_names)
    told = {"class_names": model.told["class_names"], "method": model.told["method"]}
    graph = helper.make_graph(
        nodes,
        "cachefl",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", model.width])],
        [helper.make_tensor_value_info(each, TensorProto.FLOAT, ["n", classes]) for each in OUTPUTS],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    helper.set_model_props(whole, {name: json.dumps(value) for name, value in told.items()})
    return whole


def cache_head(model: Model) -> tuple[list[tuple], dict[str, np.ndarray]]:
    """(nodes, constants) of z = s f . text + alpha sum_k exp(-beta (1 - f . key)): CacheFL's, and that of every other
    method whose file holds keys."""
    classes, per_class, width = model.keys.shape
    number = {name: np.float32(model.told[name]) for name in ("logit_scale", "alpha", "beta")}
    constants = {
        "text": np.ascontiguousarray(number["logit_scale"] * model.arrays["text"].T),
        "keys": np.ascontiguousarray(model.keys.reshape(-1, width).T),
        "one": np.float32(1), "beta": number["beta"], "alpha": number["alpha"],
        "shape": np.array([-1, classes, per_class], np.int64), "last": np.array([2], np.int64),
    }  # fmt: skip
    nodes = [
        ("MatMul", ["unit", "text"], "text_logits", {}),
        ("MatMul", ["unit", "keys"], "cosines", {}),
        ("Sub", ["cosines", "one"], "away", {}),
        ("Mul", ["away", "beta"], "sharpened", {}),
        ("Exp", ["sharpened"], "affinities", {}),
        ("Reshape", ["affinities", "shape"], "by_class", {}),
        ("ReduceSum", ["by_class", "last"], "summed", {"keepdims": 0}),
        ("Mul", ["summed", "alpha"], "cache_logits", {}),
        ("Add", ["text_logits", "cache_logits"], "logits", {}),
    ]
    return nodes, constants


def linear_head(model: Model) -> tuple[list[tuple], dict[str, np.ndarray]]:
    """(nodes, constants) of z = f W + b, of a method whose logits are that; W and b are read off its own logits.

    Raises UsageError: they are not linear in the features."""
    rows = np.concatenate([np.zeros((1, model.width)), np.eye(model.width)]).astype(np.float32)
    bias, *weight = np.asarray(compute(model, rows).logits, np.float64)
    weight = np.array(weight) - bias
    tried = np.random.default_rng(0).normal(size=(16, model.width)).astype(np.float32)
    tried /= np.linalg.norm(tried, axis=1, keepdims=True)
    found, expected = tried @ weight + bias, compute(model, tried).logits
    if not np.allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max(axis=0)):
        value = f"{model.path} (of the method {model.told['method']})"
        raise UsageError(FIELD, value, "a cache, or logits that are linear in features", "use cachefl predict")
    constants = {"weight": weight.astype(np.float32), "bias": bias.astype(np.float32)}
    return [("MatMul", ["unit", "weight"], "scores", {}), ("Add", ["scores", "bias"], "logits", {})], constants


def tower_graph(model: Model, checkpoint: str | None):
    """pixel_values [n, 3, H, W] -> features [n, D], by PyTorch's export of transformers' tower.

    Raises UsageError: the checkpoint is not there, is another, or is no CLIP in Hugging Face's format."""
    directory = checked_directory(model, checkpoint)
    settings = None if is_open_clip(directory) else json.loads((directory / "config.json").read_text())
    if settings is None or settings.get("model_type", "clip") != "clip" or model.preparation.size is None:
        allowed = "a CLIP in Hugging Face's format, whose images are of one size"
        raise UsageError("--tower", str(directory), allowed, "leave --tower out, and export features -> logits")
    with wanting("torch"):
        import onnx
        import onnxscript  # noqa: F401 (torch's exporter asks for it)
        import torch
        import transformers

    class Tower(torch.nn.Module):
        """The features alone of what the tower gives."""

        def __init__(self):
            super().__init__()
            self.tower = transformers.CLIPVisionModelWithProjection.from_pretrained(directory, dtype=torch.float32)

        def forward(self, pixel_values):
            return self.tower(pixel_values).image_embeds

    pixels = torch.zeros(2, 3, *model.preparation.size)
    with tempfile.TemporaryDirectory() as folder, quiet():
        path = pathlib.Path(folder) / "tower.onnx"
        torch.onnx.export(
            Tower().eval(), (pixels,), path, input_names=["pixel_values"], output_names=["features"], dynamo=True,
            dynamic_shapes={"pixel_values": {0: torch.export.Dim("n")}}, opset_version=OPSET, external_data=False,
            verbose=False,
        )  # fmt: skip
        graph = onnx.load(path)
    graph.ir_version = IR
    return graph
