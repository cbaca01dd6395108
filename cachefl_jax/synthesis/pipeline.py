"""Diffusers pipelines: found, loaded without code or pickles of theirs, and asked what they take.

The embedded pipeline is a stock ``StableDiffusionPipeline`` and takes the same path as the others. torch and
diffusers are imported where they are used: nothing else in the package needs them.
"""

import contextlib
import hashlib
import inspect
import pathlib
from collections.abc import Iterator, Sequence

from tqdm import tqdm

from cachefl_jax.errors import UsageError
from cachefl_jax.foreign_code import refuse_code_in

FIELD = "synthesis.pipeline"
POCKET = pathlib.Path(__file__).parent / "pocket"
ALLOWED = "'pocket', a directory in diffusers' format, or a hub name such as CompVis/stable-diffusion-v1-4"
SMALL = 10_000_000  # weights of a pipeline that one thread draws fastest
WEIGHT_FILES = (".safetensors", ".json", ".txt", ".model")
ARGUMENTS = {"prompt", "num_inference_steps", "guidance_scale", "generator", "output_type"}


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


def load_pipeline(directory: pathlib.Path):
    """The pipeline in float32, on the accelerator if torch has one.

    Raises UsageError: files missing or broken, no safetensors, code of its own, or no text-to-image pipeline."""
    import torch
    from diffusers import DiffusionPipeline

    refuse_code_in(directory)
    refuse_variants(directory)
    try:
        drawer = DiffusionPipeline.from_pretrained(
            directory, use_safetensors=True, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # each component's loader raises its own kinds
        reason = f"{directory} ({type(error).__name__}: {error})"
        wanted = "a whole pipeline with its weights in safetensors"
        raise UsageError(FIELD, reason, wanted, "download it again") from error
    if not ARGUMENTS.issubset(inspect.signature(drawer.__call__).parameters):
        kind = f"{directory} ({type(drawer).__name__})"
        raise UsageError(FIELD, kind, "a pipeline that draws images from text", "name a text-to-image model")
    drawer.set_progress_bar_config(disable=True)
    return drawer.to("cuda" if torch.cuda.is_available() else "cpu")


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


def check_lengths(drawer, prompts: Sequence[str]) -> None:
    """Refuses prompts that the tokenizer would cut off: what is lost may well be the class name."""
    tokenizer = getattr(drawer, "tokenizer", None)
    if tokenizer is None:
        return
    for prompt in dict.fromkeys(prompts):
        length = len(tokenizer(prompt).input_ids)
        if length > tokenizer.model_max_length:
            value, allowed = f"{prompt} ({length} tokens)", f"at most {tokenizer.model_max_length} tokens"
            raise UsageError("synthesis.prompts", value, allowed, "shorten the template or the class name")


@contextlib.contextmanager
def fitting_threads(drawer) -> Iterator[None]:
    """One thread for a small pipeline: its operations are over before several threads have met, and on a busy machine
    most of the time would go into waiting for one another."""
    import torch

    before = torch.get_num_threads()
    modules = [part for part in drawer.components.values() if isinstance(part, torch.nn.Module)]
    if sum(weight.numel() for module in modules for weight in module.parameters()) < SMALL:
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
