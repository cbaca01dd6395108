"""Where a checkpoint lies and what it consists of, without loading it: JAX, transformers and torch are not imported."""

import json
import pathlib
import re

from cachefl_jax.errors import UsageError

FIELD = "clip.checkpoint"
POCKET = pathlib.Path(__file__).parent / "pocket"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
OPEN_CLIP_CONFIG, OPEN_CLIP_WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
OPEN_CLIP_PICKLED = "open_clip_pytorch_model.bin"
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "spiece.model", "tokenizer.model",
)  # fmt: skip
SETTINGS = ("config.json", OPEN_CLIP_CONFIG, "preprocessor_config.json", "processor_config.json", *TOKENIZER_FILES)
CONVERTERS = {"clip": "CLIPModel", "siglip": "SiglipModel"}


def find_checkpoint(name: str) -> pathlib.Path:
    """The directory of a checkpoint: 'pocket' (the embedded one), a directory, or a hub name.

    Of a hub's checkpoint only what is read is downloaded: settings, tokenizer, and safetensors of one format.

    Raises UsageError: the name is none of these, or the hub cannot be reached."""
    if name == "pocket":
        return POCKET
    if name and pathlib.Path(name).is_dir():  # no name at all would be the current folder
        return pathlib.Path(name)
    allowed = "'pocket', a directory in Hugging Face's format, or a hub name such as openai/clip-vit-large-patch14"
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise UsageError(FIELD, name, allowed, "no such directory: correct the path")
    from huggingface_hub import snapshot_download

    try:
        directory = pathlib.Path(snapshot_download(name, allow_patterns=[*SETTINGS, INDEX]))
        weights = [OPEN_CLIP_WEIGHTS] if is_open_clip(directory) else [WEIGHTS, "model-*-of-*.safetensors"]
        directory = pathlib.Path(snapshot_download(name, allow_patterns=[*SETTINGS, INDEX, *weights]))
    except UsageError:
        raise
    except Exception as error:  # the hub client raises a dozen kinds; all of them mean "not to be had"
        reason = f"{type(error).__name__} from the hub"
        raise UsageError(FIELD, name, allowed, f"{reason}: download it once and name its directory") from error
    if not any(directory.glob("*.safetensors")):  # pickled weights are not downloaded to tell
        mend = f'convert it once to a folder DIR and name that: python -c "{convert(name, "DIR", directory)}"'
        raise UsageError(FIELD, f"{name} (no safetensors on the hub)", "a checkpoint that has them", mend)
    return directory


def is_open_clip(directory: pathlib.Path) -> bool:
    """Whether a checkpoint is to be read in open_clip's format.

    LAION's carry both formats, and there transformers' counts. The ``config.json`` beside OpenAI's ResNets is timm's,
    which names no model_type."""
    if not (directory / OPEN_CLIP_CONFIG).is_file():
        return False
    path = directory / "config.json"
    return not path.is_file() or "model_type" not in read_fields(path)


def read_fields(path: pathlib.Path) -> dict:
    """The JSON object that a checkpoint's file holds.

    Raises UsageError: the file cannot be read, is cut short, or holds something else."""
    try:
        fields = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        reason = f"no valid JSON ({type(error).__name__})"
        raise UsageError(str(path), reason, f"the checkpoint's own {path.name}", "download it again") from error
    if not isinstance(fields, dict):
        raise UsageError(str(path), f"JSON of a {type(fields).__name__}", "a JSON object", "download it again")
    return fields


def weight_files(directory: pathlib.Path) -> list[pathlib.Path]:
    """The safetensors files of a checkpoint: one, or the shards that its index names.

    Raises UsageError: there are none, the index is broken, or shards are missing: all are named."""
    if is_open_clip(directory):
        return [present(directory / OPEN_CLIP_WEIGHTS, directory)]
    index = directory / INDEX
    if (directory / WEIGHTS).is_file() or not index.is_file():
        return [present(directory / WEIGHTS, directory)]
    shards = read_fields(index).get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(map(is_file_name, shards.values())):
        raise UsageError(str(index), "no map of tensors to files", "Hugging Face's weight_map", "download it again")
    paths = [directory / name for name in sorted(set(shards.values()))]
    absent = [path.name for path in paths if not path.is_file()]
    if absent:
        allowed = f"all that {INDEX} names"
        raise UsageError(str(directory), f"no {', '.join(absent)}", allowed, "download what is missing")
    return paths


def is_file_name(name: object) -> bool:
    """Whether `name` is a file's own, without folders: an index may not lead out of its directory."""
    return isinstance(name, str) and pathlib.PurePath(name).name == name


def present(path: pathlib.Path, directory: pathlib.Path) -> pathlib.Path:
    """`path`, where it is a file.

    Raises UsageError: it is not; with what to do about the weights that lie there in its stead."""
    if path.is_file():
        return path
    found, mend = in_its_stead(path, directory)
    raise UsageError(FIELD, f"{directory} ({found})", f"weights in {path.name}", mend)


def in_its_stead(path: pathlib.Path, directory: pathlib.Path) -> tuple[str, str]:
    """(what there is of weights where `path` is not, what makes it a checkpoint that can be read)."""
    others = sorted(file.name for file in directory.glob("*.safetensors") if file.is_file())
    shards = [name for name in others if re.search(r"-\d+-of-\d+", name)]
    if shards and path.name == WEIGHTS:
        return f"shards such as {shards[0]}, without {INDEX}", f"download {INDEX} from the checkpoint's page as well"
    if shards:
        return f"shards such as {shards[0]}", f"download {path.name}: this format is read from one file"
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        return f"{others[0]}{more} only", f"rename {others[0]} to {path.name} if these are the model's weights"
    pickled = sorted(file.name for file in directory.glob("*.bin"))
    if pickled:
        return f"{pickled[0]} only", conversion(directory)
    return "no weights", "download them, or name another directory"


def conversion(directory: pathlib.Path) -> str:
    """The command that rewrites pickled weights as safetensors, once."""
    if is_open_clip(directory):
        body = "import torch, safetensors.torch as s; "
        body += f"s.save_file(torch.load('{OPEN_CLIP_PICKLED}', weights_only=True), '{OPEN_CLIP_WEIGHTS}')"
        return f'convert them once, in that directory: python -c "{body}"'
    return f'convert them once: python -c "{convert(str(directory), str(directory), directory)}"'


def convert(name: str, folder: str, settings: pathlib.Path) -> str:
    """Python that reads the checkpoint `name`, whose settings lie in a directory, and writes it into `folder`."""
    path = settings / "config.json"
    kind = read_fields(path).get("model_type") if path.is_file() else None
    model = CONVERTERS.get(kind, "AutoModel")
    kinds = [model] if name == folder else [model, "AutoProcessor"]
    foreign = {each: ", trust_remote_code=False" if each.startswith("Auto") else "" for each in kinds}
    steps = [f"{each}.from_pretrained({name!r}{foreign[each]}).save_pretrained({folder!r})" for each in kinds]
    return f"from transformers import {', '.join(kinds)}; {'; '.join(steps)}"


def counted_files(directory: pathlib.Path) -> list[pathlib.Path]:
    """All files that features depend on, sorted: weights, settings, tokenizer and image preparation.

    A readme or weights in other formats beside them do not count.

    Raises UsageError: as `weight_files`."""
    settings = [directory / name for name in (*SETTINGS, INDEX) if (directory / name).is_file()]
    return sorted([*settings, *weight_files(directory)])
