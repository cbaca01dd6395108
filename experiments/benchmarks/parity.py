"""Whether our towers give the features of the checkpoint's own implementation, at full size.

    python -m experiments.benchmarks.parity --models=vit-b-32,siglip-base

Weights are random, of the published architectures: features can be compared without a checkpoint at hand, and a
transposed matrix or a wrong activation shows in them as well. One after another is written to a temporary folder as a
real checkpoint, read by both, and deleted. The table is also written to --output, with the command.
"""

import importlib.metadata
import pathlib
import sys
import tempfile
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import numpy as np
from absl import flags

from cachefl_jax.commands import command
from cachefl_jax.errors import UsageError
from cachefl_jax.machine import cores
from cachefl_jax.storage.files import write_whole
from experiments.benchmarks import tables

LEAST_COSINE, LARGEST_DIFFERENCE = 0.99999, 1e-4
INPUTS = 4
GAINS = {"CLIP": 4, "Siglip": 1}  # CLIP's matrices start so small that all tokens get nearly the same attention
OUTPUT = "experiments/benchmarks/parity.txt"


class Case(NamedTuple):
    """A checkpoint to be made, and somebody else's code that reads it."""

    write: Callable[[pathlib.Path], None]  # writes it, with random weights, into a folder
    read: Callable[[pathlib.Path], tuple[Callable, Callable]]  # functions: pixels [B, H, W, 3], ids [B, T] to [B, D]
    image_size: int
    vocabulary: int
    length: int


class Parity(NamedTuple):
    """The worst of all inputs."""

    cosine: float
    difference: float  # largest absolute difference, as a share of the feature's length
    spread: float  # the reference's cosine between the first input and the least like it: 1 would prove nothing


def transformers_case(name: str, vision: dict, text: dict, features: int | None = None) -> Case:
    """A ``CLIPModel`` or ``SiglipModel`` of the given sizes; what is not given is transformers' default."""

    def write(folder: pathlib.Path) -> None:
        import torch
        import transformers

        torch.manual_seed(0)
        shared = {"projection_dim": features} if features else {}
        config = getattr(transformers, f"{name}Config")(vision_config=vision, text_config=text, **shared)
        model = getattr(transformers, f"{name}Model")(config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim < 2:  # norms and biases start at 1 and 0, where a mix-up would not show
                    parameter.add_(0.1 * torch.randn_like(parameter))
                else:
                    parameter.mul_(GAINS[name])
        model.save_pretrained(folder)

    def read(folder: pathlib.Path) -> tuple[Callable, Callable]:
        import torch
        import transformers

        model = getattr(transformers, f"{name}Model").from_pretrained(folder).eval()

        @torch.inference_mode()
        def images(pixels: np.ndarray) -> np.ndarray:
            given = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
            return model.get_image_features(pixel_values=given).pooler_output.numpy()

        @torch.inference_mode()
        def texts(ids: np.ndarray) -> np.ndarray:
            return model.get_text_features(input_ids=torch.from_numpy(ids)).pooler_output.numpy()

        return images, texts

    sizes = {"CLIP": (49408, 77), "Siglip": (text.get("vocab_size", 32000), 64)}[name]
    return Case(write, read, vision.get("image_size", 224), *sizes)


OPENAI = {"eos_token_id": 2}  # as their config.json says by mistake
LARGE = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
WIDE_TEXT = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
GELU = {"hidden_act": "gelu"}
# A row here is a model of the table: whoever brings another architecture adds its `Case`.
MODELS = {
    "vit-b-32": transformers_case("CLIP", {}, OPENAI),
    "vit-b-16": transformers_case("CLIP", {"patch_size": 16}, OPENAI),
    "vit-l-14": transformers_case("CLIP", LARGE | {"patch_size": 14}, WIDE_TEXT | OPENAI, 768),
    "vit-l-14-336": transformers_case("CLIP", LARGE | {"patch_size": 14, "image_size": 336}, WIDE_TEXT | OPENAI, 768),
    "laion-vit-b-32": transformers_case("CLIP", GELU, GELU),
    "siglip-base": transformers_case("Siglip", {}, {}),
    "siglip2-base": transformers_case("Siglip", {}, {"vocab_size": 256000}),
}


def make_inputs(case: Case, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels [B, H, W, 3] of coarse noise, and texts [B, T] whose last and largest id, the end, comes ever later."""
    rng = np.random.default_rng(0)
    coarse = rng.standard_normal((count, 8, 8, 3), np.float32)
    rows = np.arange(case.image_size) * 8 // case.image_size
    pixels = np.ascontiguousarray(coarse[:, rows][:, :, rows])
    ids = rng.integers(3, case.vocabulary - 2, (count, case.length))
    for row, end in enumerate(np.linspace(4, case.length - 1, count).astype(int)):
        ids[row, end:] = case.vocabulary - 1
    return pixels, ids


def read_ours(folder: pathlib.Path) -> tuple[Callable, Callable, int]:
    """The same two functions as a case's `read`, and the number of parameters."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    from cachefl_jax.clip import load_clip
    from cachefl_jax.clip.model import compiled_features

    model = load_clip(folder)
    images, texts = compiled_features(model)
    count = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
    return (
        lambda pixels: np.asarray(images(jnp.asarray(pixels))),
        lambda ids: np.asarray(texts(jnp.asarray(ids, jnp.int32))),
        count,
    )


def compare(ours: np.ndarray, theirs: np.ndarray) -> Parity:
    """How near features [B, D] are to the reference's."""
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    norms = np.linalg.norm(theirs, axis=1)
    cosines = (ours * theirs).sum(axis=1) / np.linalg.norm(ours, axis=1) / norms
    between = theirs @ theirs[0] / norms / norms[0]
    return Parity(cosines.min(), (np.abs(ours - theirs).max(axis=1) / norms).max(), between.min())


def close(parity: Parity) -> bool:
    return parity.cosine >= LEAST_COSINE and parity.difference <= LARGEST_DIFFERENCE


def run_case(case: Case, folder: pathlib.Path) -> tuple[int, Parity, Parity]:
    """Parameters, parity of images and of texts."""
    case.write(folder)
    pixels, ids = make_inputs(case, INPUTS)
    images, texts = case.read(folder)
    our_images, our_texts, count = read_ours(folder)
    return count, compare(our_images(pixels), images(pixels)), compare(our_texts(ids), texts(ids))


def parity_table(rows: Sequence[tuple[str, int, Parity, Parity]]) -> str:
    lines = [
        ["model", "parameters", "image cosine", "text cosine", "image difference", "text difference", "spread", ""]
    ]
    for name, count, image, text in rows:
        cosines = [f"{parity.cosine:.8f}" for parity in (image, text)]
        differences = [f"{parity.difference:.1e}" for parity in (image, text)]
        spread = f"{image.spread:.2f}, {text.spread:.2f}"
        verdict = "ok" if close(image) and close(text) else "APART"
        lines.append([name, f"{count:,}", *cosines, *differences, spread, verdict])
    return tables.markdown(lines)


def check_names(flag: str, names: Sequence[str], known: Collection[str]) -> Sequence[str]:
    for name in names:
        if name not in known:
            raise UsageError(f"--{flag}", name, " | ".join(known), "correct the name")
    return names


def main() -> None:
    names, compared = check_names("models", flags.FLAGS.models, MODELS), []
    for name in names:
        print(name, file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            compared.append((name, *run_case(MODELS[name], pathlib.Path(folder))))
    packages = ("jax", "flax", "torch", "transformers")
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)
    parts = [
        f"$ python -m experiments.benchmarks.parity --models={','.join(names)}",
        f"{versions}; {cores()} cores; float32; {INPUTS} images and {INPUTS} texts a model",
        parity_table(compared),
        f"Bounds: cosine at least {LEAST_COSINE}; difference, the largest in a feature over its length, at most "
        f"{LARGEST_DIFFERENCE:g}.\nSpread: the least cosine between two images' features, and two texts'.",
    ]
    text = "\n\n".join(parts) + "\n"
    print(text, end="")
    write_whole(pathlib.Path(flags.FLAGS.output), lambda file: file.write(text.encode()))
    if not all(close(image) and close(text) for _, _, image, text in compared):
        sys.exit(1)


if __name__ == "__main__":
    flags.DEFINE_list("models", list(MODELS), f"which are compared: {', '.join(MODELS)}")
    flags.DEFINE_string("output", OUTPUT, "the file of the table")
    command.run(main)
