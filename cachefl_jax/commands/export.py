"""Writes the model that a run left as an ONNX file: features to logits or, with --tower, pixels to logits.

    python -m experiments.export --model=runs/digits/cache.safetensors --output=digits.onnx [--tower]

Inputs and outputs are told in docs/deploy.md. Asks for the extra `onnx`, and with --tower for torch and transformers.
"""

import pathlib

from absl import flags

from cachefl_jax.commands import command
from cachefl_jax.errors import UsageError

command.define_path("model", "the cache.safetensors or model.safetensors of a run")
command.define_path("output", "the .onnx file to write")


def define_flags() -> None:
    flags.DEFINE_bool("tower", False, "put the checkpoint's image tower in front: pixels instead of features")
    flags.DEFINE_string("checkpoint", None, "where the run's CLIP checkpoint lies now; by default where it lay then")


def main() -> None:
    path, output = pathlib.Path(command.required("model")), pathlib.Path(command.required("output"))
    if output.suffix != ".onnx":
        raise UsageError("--output", str(output), "a .onnx file", "rename it")
    # After the flags, so that a wrong one is answered at once.
    from cachefl_jax.deploy.model import read_model
    from cachefl_jax.deploy.onnx_graph import export
    from cachefl_jax.simulation.environment import settle

    model = read_model(path)
    settle()
    export(model, output, flags.FLAGS.tower, flags.FLAGS.checkpoint)
    print(output)


def start() -> None:
    define_flags()
    command.run(main)
