"""Diffusers pipelines: found, loaded without code or pickles of theirs, and asked what they take.

The embedded pipeline is a stock ``StableDiffusionPipeline`` and takes the same path as the others. torch and
diffusers are imported where they are used: nothing else in the package needs them.
"""

import contextlib
import hashlib
import inspect
import pathlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence

from tqdm import tqdm

from cachefl_jax.errors import UsageError
from cachefl_jax.foreign_code import refuse_code_in
from cachefl_jax.storage.files import json_if_whole

FIELD = "synthesis.pipeline"
POCKET = pathlib.Path(__file__).parent / "pocket"
ALLOWED = "'pocket', a directory in diffusers' format, or a hub name such as CompVis/stable-diffusion-v1-4"
SMALL = 10_000_000  # weights of a pipeline that one thread draws fastest
WEIGHT_FILES = (".safetensors", ".json", ".txt", ".model")
ARGUMENTS = {"prompt", "num_inference_steps", "guidance_scale", "generator", "output_type"}
OTHERS = {"strength", "num_frames"}  # arguments of pipelines that change an image, or draw films
LARGEST_WHOLE = 1024 * 1024  # pixels of an image that is decoded in one piece


def find_pipeline(name: str) -> pathlib.Path:
    """The directory of a pipeline; a hub name is downloaded (safetensors only) or found in the hub's local cache.

    Raises UsageError: the name is no pipeline's directory, or the hub cannot be reached."""
    directory = POCKET if name == "pocket" else pathlib.Path(name)
    if directory.is_dir():
        if not (directory / "model_index.json").is_file():
            found = f"{directory} (no model_index.json)"
            raise UsageError(FIELD, found, ALLOWED, "name the top folder of a pipeline")
        return directory
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise UsageError(FIELD, name, ALLOWED, "no such directory: correct the path")
    from diffusers import DiffusionPipeline

    try:
        with quiet():
            return pathlib.Path(DiffusionPipeline.download(name, use_safetensors=True, trust_remote_code=False))
    except Exception as error:  # the hub client raises a dozen kinds; all of them mean "not to be had"
        reason = f"{type(error).__name__} from the hub"
        raise UsageError(FIELD, name, ALLOWED, f"{reason}: download it once and name its directory") from error


def load_pipeline(directory: pathlib.Path, dtype: str = "float32"):
    """The pipeline as its own class, in `dtype`, on the accelerator if torch has one.

    Raises UsageError: files missing or broken, no safetensors, code of its own, or no text-to-image pipeline."""
    import torch
    from diffusers import DiffusionPipeline

    refuse_code_in(directory)
    refuse_variants(directory)
    options = {"use_safetensors": True, "local_files_only": True, "trust_remote_code": False}
    try:
        drawer = DiffusionPipeline.from_pretrained(directory, dtype=getattr(torch, dtype), **options)
    except Exception as error:  # each component's loader raises its own kinds
        reason = f"{directory} ({type(error).__name__}: {error})"
        wanted = "a whole pipeline with its weights in safetensors"
        raise UsageError(FIELD, reason, wanted, "download it again") from error
    arguments = parameters(drawer).keys()
    if not arguments >= ARGUMENTS or arguments & OTHERS:
        kind = f"{directory} ({type(drawer).__name__})"
        raise UsageError(FIELD, kind, "a pipeline that draws images from text", "name a text-to-image model")
    drawer.set_progress_bar_config(disable=True)
    return drawer.to("cuda" if torch.cuda.is_available() else "cpu")


def parameters(drawer) -> Mapping[str, inspect.Parameter]:
    """What a pipeline's call takes, by name."""
    return inspect.signature(drawer.__call__).parameters


def called(name: str) -> str:
    """What a pipeline is called on its images: a folder by its own name, wherever it lies."""
    return pathlib.Path(name).resolve().name if pathlib.Path(name).is_dir() else name


def scheduler_of(directory: pathlib.Path) -> str:
    """The class of a pipeline's scheduler; "" where its index names none."""
    index = json_if_whole(directory / "model_index.json")
    found = index.get("scheduler") if isinstance(index, dict) else None
    return str(found[-1]) if isinstance(found, list) and found else ""


def spare_memory(drawer, pixels: int) -> None:
    """Has a large pipeline decode image by image, and images of more than `LARGEST_WHOLE` pixels in tiles, where it
    offers that: decoding a batch at once takes more memory than all the rest. Small ones are faster as they are."""
    decoder = getattr(drawer, "vae", None)
    if is_small(drawer):
        return
    if hasattr(decoder, "enable_slicing"):
        decoder.enable_slicing()
    if pixels > LARGEST_WHOLE and hasattr(decoder, "enable_tiling"):
        decoder.enable_tiling()


def is_small(drawer) -> bool:
    """Whether a pipeline has so few weights that its operations are over before several threads have met."""
    import torch

    modules = [part for part in drawer.components.values() if isinstance(part, torch.nn.Module)]
    return sum(weight.numel() for module in modules for weight in module.parameters()) < SMALL


def refuse_variants(directory: pathlib.Path) -> None:
    """Refuses parts whose weights have a variant's name alone, such as ``....fp16.safetensors``: none would be found.

    Raises UsageError: names the first of them."""
    for part in sorted(path for path in directory.iterdir() if path.is_dir()):
        names = sorted(path.name for path in part.glob("*.safetensors"))
        if names and all(name.count(".") > 1 for name in names):
            found = f"{directory} ({part.name}/{names[0]} only)"
            mend = "take the weights without a variant from the pipeline's page"
            if "-of-" not in names[0]:  # of shards the index would have to be rewritten too
                mend = f"rename it to {names[0].split('.')[0]}.safetensors, and the other parts' likewise"
            raise UsageError(FIELD, found, "weights without a variant such as fp16 in their names", mend)


def load_tokenizers(directory: pathlib.Path) -> list:
    """A pipeline's tokenizers, without its weights; some pipelines have two or three.

    Raises UsageError: one of them is broken, or brings code of its own."""
    from transformers import AutoTokenizer

    refuse_code_in(directory)
    parts = sorted(part for part in directory.glob("tokenizer*") if part.is_dir())
    try:
        with quiet():
            own = {"local_files_only": True, "trust_remote_code": False}
            return [AutoTokenizer.from_pretrained(str(part), **own) for part in parts]
    except Exception as error:  # the tokenizers' own parsers raise bare Exceptions
        reason = f"{directory} ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
        raise UsageError(FIELD, reason, "a whole pipeline with its tokenizers", "download it again") from error


def check_lengths(drawer, prompts: Sequence[str]) -> None:
    """Refuses prompts that one of the tokenizers would cut off: what is lost may well be the class name."""
    limits = token_limits(drawer)
    for prompt in dict.fromkeys(prompts):
        for tokenizer, most in limits:
            length = len(tokenizer(prompt).input_ids)
            if length > most:
                value, allowed = f"{prompt} ({length} tokens)", f"at most {most} tokens"
                raise UsageError("synthesis.prompts", value, allowed, "shorten the template or the class name")


def token_limits(drawer) -> list[tuple[Callable, int]]:
    """(tokenizer, tokens that the pipeline hands on) of each of a pipeline's tokenizers.

    Beside CLIP's fixed length, the pipelines have one for their language models in their call's signature."""
    asked, found = parameters(drawer).get("max_sequence_length"), []
    for name, tokenizer in sorted(drawer.components.items()):
        if name.startswith("tokenizer") and tokenizer is not None:
            most = tokenizer.model_max_length
            if asked is not None and "CLIP" not in type(tokenizer).__name__:
                most = min(most, asked.default)
            found.append((tokenizer, most))
    return found


@contextlib.contextmanager
def fitting_threads(drawer) -> Iterator[None]:
    """One thread for a small pipeline: on a busy machine most of the time would go into waiting for one another."""
    import torch

    before = torch.get_num_threads()
    if is_small(drawer):
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Holds back the libraries' bars and advice, and puts their settings back afterwards."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    libraries = (diffusers_logging, transformers_logging)
    before = [(library.get_verbosity(), library.is_progress_bar_enabled()) for library in libraries]
    for library in libraries:
        library.set_verbosity_error()
        library.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            for kind in (FutureWarning, DeprecationWarning):  # of a scheduler's settings, of what they call in NumPy
                warnings.simplefilter("ignore", kind)
            yield
    finally:
        for library, (verbosity, bars) in zip(libraries, before, strict=True):
            library.set_verbosity(verbosity)
            if bars:
                library.enable_progress_bar()


def weights_digest(directory: pathlib.Path) -> str:
    """The sha256 of all that a pipeline is made of: its index, and its components' weights and settings.

    Other files beside them (a readme, single-file copies of the weights) do not count."""
    index = directory / "model_index.json"
    parts = [path for path in directory.glob("*/**/*") if path.suffix in WEIGHT_FILES and path.is_file()]
    digest = hashlib.sha256()
    # The bar waits two seconds: a pocket's weights need no bar, a large model's do.
    for path in tqdm([index, *sorted(parts)], desc="hashing weights", leave=False, disable=None, delay=2):
        digest.update(path.relative_to(directory).as_posix().encode() + b"\n")
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
