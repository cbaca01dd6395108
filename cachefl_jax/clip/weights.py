"""Hugging Face CLIP checkpoints, read and written: safetensors on one side, an NNX model on the other.

Only the numpy loader of ``safetensors`` is used, so no torch is needed to read a checkpoint and nothing is ever
unpickled.
"""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from transformers import CLIPConfig

from cachefl_jax.clip.model import ACTIVATIONS, CLIP
from cachefl_jax.errors import UsageError

FIELD = "clip.checkpoint"
POCKET = pathlib.Path(__file__).parent / "pocket"
HUB_FILES = ["*.json", "merges.txt", "model*.safetensors"]
# Buffers that old checkpoints carry and that hold nothing but 0, 1, 2, ...
POSITION_IDS = ("text_model.embeddings.position_ids", "vision_model.embeddings.position_ids")


def find_checkpoint(name: str) -> pathlib.Path:
    """The directory of a checkpoint: 'pocket' (the embedded one), a directory, or a hub name.

    Raises:
        UsageError: the name is none of these, or the hub cannot be reached.
    """
    if name == "pocket":
        return POCKET
    if pathlib.Path(name).is_dir():
        return pathlib.Path(name)
    allowed = "'pocket', a directory in Hugging Face's format, or a hub name such as openai/clip-vit-base-patch32"
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise UsageError(FIELD, name, allowed, "no such directory: correct the path")
    from huggingface_hub import snapshot_download

    try:
        return pathlib.Path(snapshot_download(name, allow_patterns=HUB_FILES))
    except Exception as error:  # the hub client raises a dozen kinds; all of them mean "not to be had"
        reason = f"{type(error).__name__} from the hub"
        raise UsageError(FIELD, name, allowed, f"{reason}: download it once and name its directory") from error


def read_config(directory: pathlib.Path) -> CLIPConfig:
    """The checkpoint's ``config.json``; refuses what these towers do not compute."""
    path = directory / "config.json"
    if not path.is_file():
        raise UsageError(FIELD, str(directory), "a directory with a config.json", "name a CLIP checkpoint's directory")
    try:
        fields = json.loads(path.read_text())
    except ValueError as error:
        raise UsageError(str(path), "no valid JSON", "Hugging Face's config.json", "download it again") from error
    if fields.get("model_type") != "clip":
        raise UsageError(f"{path}: model_type", fields.get("model_type"), "clip", "name a CLIP checkpoint")
    config = CLIPConfig.from_dict(fields)
    for tower in (config.vision_config, config.text_config):
        if tower.hidden_act not in ACTIVATIONS:
            raise UsageError(f"{path}: hidden_act", tower.hidden_act, ", ".join(ACTIVATIONS), "choose another model")
    return config


def load_clip(directory: pathlib.Path) -> CLIP:
    """Builds the model that the directory's config describes and fills it with its weights, float32.

    Raises:
        UsageError: no safetensors, or tensors missing, unexpected or of another shape: all are named.
    """
    abstract = nnx.eval_shape(lambda: CLIP(read_config(directory), rngs=nnx.Rngs(0)))
    graph, state = nnx.split(abstract)
    tensors = read_tensors(directory)
    leaves, structure = jax.tree_util.tree_flatten_with_path(state)
    faults, arrays = [], []
    for path, leaf in leaves:
        name, axes = tensor_name(path, leaf.ndim)
        if name not in tensors:
            faults.append(f"missing {name}")
            continue
        array = np.asarray(tensors.pop(name), np.float32)
        if axes is not None and array.ndim == len(axes):
            array = array.transpose(axes)
        if array.shape != leaf.shape:
            faults.append(f"{name} has shape {array.shape} where {leaf.shape} is due")
        arrays.append(array)
    faults += [f"unexpected {name}" for name in tensors if name not in POSITION_IDS]
    if faults:
        wanted = "exactly the tensors that config.json describes"
        raise UsageError(FIELD, f"{directory} ({'; '.join(faults)})", wanted, "use weights and config of one model")
    return nnx.merge(graph, jax.tree.unflatten(structure, [jnp.asarray(array) for array in arrays]))


def save_clip(model: CLIP, config: CLIPConfig, directory: pathlib.Path) -> None:
    """Writes ``config.json`` and ``model.safetensors`` as Hugging Face's ``save_pretrained`` would."""
    tensors = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(nnx.state(model))[0]:
        name, axes = tensor_name(path, leaf.ndim)
        array = np.asarray(leaf)
        tensors[name] = np.array(array if axes is None else array.transpose(np.argsort(axes)), order="C")
    directory.mkdir(parents=True, exist_ok=True)
    weights = directory / "model.safetensors"
    save_file(tensors, weights, metadata={"format": "pt"})
    weights.chmod(0o644)  # the writer leaves it to its owner alone
    config.save_pretrained(directory)


def read_tensors(directory: pathlib.Path) -> dict[str, np.ndarray]:
    """Every tensor of ``model.safetensors``, or of the shards that its index names."""
    index = directory / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if index.is_file():
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    elif not (directory / names[0]).is_file():
        found = "pytorch_model.bin only" if (directory / "pytorch_model.bin").is_file() else "no weights"
        mend = "convert once: CLIPModel.from_pretrained(DIR).save_pretrained(DIR, safe_serialization=True)"
        raise UsageError(FIELD, f"{directory} ({found})", "weights in model.safetensors", mend)
    tensors = {}
    for name in names:
        try:
            tensors |= load_file(directory / name)
        except (SafetensorError, OSError) as error:
            raise UsageError(
                FIELD, f"{directory / name} ({error})", "a whole safetensors file", "download it again"
            ) from error
    return tensors


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
