"""CLIP and SigLIP checkpoints, read and written: safetensors on one side, an NNX model on the other.

Only the numpy loader of ``safetensors`` is used, so neither torch nor transformers is needed to read a checkpoint and
nothing is ever unpickled.
"""

import pathlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes  # noqa: F401 - gives NumPy its bfloat16, without which the numpy loader refuses such tensors
import numpy as np
from flax import nnx
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from cachefl_jax.clip.architecture import read_config
from cachefl_jax.clip.checkpoint import FIELD, is_open_clip, weight_files
from cachefl_jax.clip.claims import check_claims, config_claims
from cachefl_jax.clip.model import CLIP
from cachefl_jax.clip.siglip import SigLIP
from cachefl_jax.errors import UsageError
from cachefl_jax.precision import MATMUL, MATMULS

if TYPE_CHECKING:
    import transformers

MODELS = {"clip": CLIP, "siglip": SigLIP}
DTYPES = {"float32": jnp.float32, "float32_3x": jnp.float32, "bfloat16": jnp.bfloat16}  # what weights are kept in
READABLE = {"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL"}  # of safetensors' types
# Buffers that old checkpoints carry and that hold nothing but 0, 1, 2, ...
POSITION_IDS = ("text_model.embeddings.position_ids", "vision_model.embeddings.position_ids")


def load_clip(directory: pathlib.Path, dtype: str = "float32") -> nnx.Module:
    """Builds the model that the directory's config describes and fills it with its weights.

    Args:
        directory: a checkpoint in Hugging Face's format, of CLIP or SigLIP, or in open_clip's.
        dtype: one of DTYPES, what weights are kept and multiplied in, whatever they are stored in; float32_3x: three
            products of bfloat16 parts, whose sum is about as exact as float32's.

    Returns:
        A model with ``image_features(pixels [B, H, W, 3])``, ``text_features(ids [B, T])``, both float32 [B, D] and not
        normalised, and ``logit_scale``, a logarithm.

    Raises UsageError: no safetensors, or tensors missing, unexpected or of another shape: all are named."""
    directory = pathlib.Path(directory)
    if dtype not in DTYPES:
        raise UsageError("clip.dtype", dtype, " | ".join(DTYPES), "choose one of these")
    if is_open_clip(directory):
        from cachefl_jax.clip.open_clip import load_open_clip

        return load_open_clip(directory, dtype)
    claims, readers = config_claims(read_config(directory)), read_tensors(directory)
    check_claims(claims, {name: reader.shape for name, reader in readers.items()}, str(directory / "config.json"))
    return fill(abstract_clip(directory, dtype), readers, str(directory), tensor_name, POSITION_IDS)


def abstract_clip(directory: pathlib.Path, dtype: str = "float32") -> nnx.Module:
    """The model of a checkpoint in Hugging Face's format, with shapes in place of weights.

    Raises UsageError: as `read_config`."""
    config = read_config(directory)
    return multiplying(
        nnx.eval_shape(lambda: MODELS[config.model_type](config, rngs=nnx.Rngs(0), dtype=DTYPES[dtype])), dtype
    )


def multiplying(model: nnx.Module, dtype: str) -> nnx.Module:
    """The model, its matrix products computed as `dtype` says."""
    model.matmul = MATMULS.get(dtype, MATMUL)
    return model


def fill(abstract: nnx.Module, readers: dict, where: str, name_of: Callable, ignored: Sequence[str] = ()) -> nnx.Module:
    """The module that `abstract` has the shape of, filled with what `readers` give, each in the module's own dtype.

    Args:
        readers: functions that give an array, by the checkpoint's names; emptied on the way.
        name_of: (path, number of axes) of a parameter to (the checkpoint's name, how its axes are turned or None).
        ignored: names that the checkpoint may have beside the parameters.

    Raises UsageError: tensors are missing, unexpected, of another shape or of whole numbers: all are named."""
    graph, state = nnx.split(abstract)
    leaves, structure = jax.tree_util.tree_flatten_with_path(state)
    faults, arrays = [], []
    for path, leaf in leaves:
        name, axes = name_of(path, leaf.ndim)
        if name not in readers:
            faults.append(f"missing {name}")
            continue
        array, due = readers.pop(name)(), stored_shape(leaf.shape, axes)
        if array.shape != due:
            faults.append(f"{name} has shape {array.shape} where {due} is due")
            continue
        if jnp.issubdtype(leaf.dtype, jnp.floating) and not jnp.issubdtype(array.dtype, jnp.floating):
            faults.append(f"{name} holds {array.dtype} where fractions are due")  # quantised, or a damaged header
            continue
        arrays.append(jnp.asarray(array if axes is None else array.transpose(axes), leaf.dtype))
    faults += [f"unexpected {name}" for name in readers if name not in ignored]
    if faults:
        wanted = "exactly the tensors that its config describes"
        raise UsageError(FIELD, f"{where} ({'; '.join(faults)})", wanted, "use weights and config of one model")
    return nnx.merge(graph, jax.tree.unflatten(structure, arrays))


def stored_shape(shape: tuple[int, ...], axes: tuple[int, ...] | None) -> tuple[int, ...]:
    """The shape in the checkpoint of what has `shape` once its axes are turned."""
    return shape if axes is None else tuple(shape[axes.index(axis)] for axis in range(len(shape)))


def save_clip(model: CLIP, config: "transformers.CLIPConfig", directory: pathlib.Path) -> None:
    """Writes ``config.json`` and ``model.safetensors`` as Hugging Face's ``save_pretrained`` would."""
    directory.mkdir(parents=True, exist_ok=True)
    weights = directory / "model.safetensors"
    save_file(stored_tensors(nnx.state(model)), weights, metadata={"format": "pt"})
    weights.chmod(0o644)  # the writer leaves it to its owner alone
    config.save_pretrained(directory)


def stored_tensors(state) -> dict[str, np.ndarray]:
    """The arrays of a state, or of a pure dictionary of it, under the names and with the axes that Hugging Face's
    checkpoints have them."""
    tensors = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]:
        name, axes = tensor_name(path, leaf.ndim)
        array = np.asarray(leaf)
        tensors[name] = np.array(array if axes is None else array.transpose(np.argsort(axes)), order="C")
    return tensors


class Stored(NamedTuple):
    """A tensor of a file; calling it reads it.

    The file is opened for it alone: what is mapped of a file stays in memory until it is closed."""

    path: pathlib.Path
    name: str
    shape: tuple[int, ...]

    def __call__(self) -> np.ndarray:
        with safe_open(self.path, "numpy") as file:
            return file.get_tensor(self.name)


def read_tensors(directory: pathlib.Path) -> dict[str, Stored]:
    """What reads each tensor of a checkpoint's safetensors, as it is stored: one at a time, so that memory holds the
    weights once.

    Raises UsageError: there are none, a shard is missing, or a file is broken or of a type that NumPy cannot hold."""
    readers = {}
    for path in weight_files(directory):
        try:
            with safe_open(path, "numpy") as file:
                slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
                types = {name: part.get_dtype() for name, part in slices.items()}
                shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
        except (SafetensorError, OSError) as error:
            raise UsageError(FIELD, f"{path} ({error})", "a whole safetensors file", "download it again") from error
        others = sorted(set(types.values()) - READABLE)
        if others:
            wanted, mend = "float32, float16 or bfloat16 tensors", "take the checkpoint's unquantised weights"
            raise UsageError(FIELD, f"{path} (tensors of {', '.join(others)})", wanted, mend)
        readers |= {name: Stored(path, name, shape) for name, shape in shapes.items()}
    return readers


def tensor_name(path, ndim: int) -> tuple[str, tuple[int, ...] | None]:
    """The checkpoint's name of the parameter at `path`, and how its axes are turned to get ours."""
    keys = [str(getattr(entry, "key", getattr(entry, "name", getattr(entry, "idx", entry)))) for entry in path]
    keys = [key for key in keys if key != "value"]
    axes = None
    if keys[-1] == "kernel":  # torch: [out, in] and [out, in, H, W]; Flax: [in, out] and [H, W, in, out]
        axes = (1, 0) if ndim == 2 else (2, 3, 1, 0)
    if keys[-1] in ("kernel", "scale", "embedding"):
        keys[-1] = "weight"
    return ".".join(keys), axes
