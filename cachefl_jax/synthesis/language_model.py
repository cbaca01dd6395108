"""A language model that describes classes: any text-generation model of transformers, asked with a fixed instruction.

Its weights are read from safetensors alone and no code of its own is run. What it answers is text from outside, which
`cachefl_jax.synthesis.descriptions` cleans and filters. transformers and torch are imported where they are used.
"""

import pathlib
from collections.abc import Sequence

from cachefl_jax.errors import UsageError
from cachefl_jax.foreign_code import refuse_code_in
from cachefl_jax.synthesis.descriptions import FIELD, LINES, Ask
from cachefl_jax.synthesis.pipeline import quiet

ALLOWED = "grammar, a directory of a text-generation model, or a hub name such as Qwen/Qwen2.5-1.5B-Instruct"
FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")
COUNTED = (".safetensors", ".json", ".txt", ".model", ".jinja")  # of its files: the digest's
TOKENS = 48 * LINES  # of an answer, at most
SAMPLING = {"do_sample": True, "temperature": 1.0, "top_p": 0.95, "top_k": 50}
INSTRUCTION = (
    "Write {lines} different prompts for a model that draws images. Each prompt describes one picture of {name}, such "
    'as "{example}" Vary the place, the light, the angle, the background, the style and the state of what is shown. '
    'Every prompt contains the words "{name}" and has at most 25 words. Write one prompt a line, as a numbered list, '
    "in plain text, and nothing else."
)
BEGUN = "\n\n1."  # what a model without a chat template goes on from


def find_model(name: str) -> pathlib.Path:
    """The directory of a model; a hub name is downloaded (safetensors only) or found in the hub's local cache.

    Raises UsageError: the name is no model's directory, or the hub cannot be reached."""
    directory = pathlib.Path(name)
    if directory.is_dir():
        if not (directory / "config.json").is_file():
            raise UsageError(FIELD, f"{directory} (no config.json)", ALLOWED, "name the folder of a whole model")
        refuse_code_in(directory)
        return directory
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise UsageError(FIELD, name, ALLOWED, "no such directory: correct the path")
    from huggingface_hub import snapshot_download

    try:
        with quiet():
            directory = pathlib.Path(snapshot_download(name, allow_patterns=FILES))
    except Exception as error:  # the hub client raises a dozen kinds; all of them mean "not to be had"
        mend = f"{type(error).__name__} from the hub: download it once and name its directory"
        raise UsageError(FIELD, name, ALLOWED, mend) from error
    refuse_code_in(directory)
    return directory


def load_model(directory: pathlib.Path):
    """transformers' text-generation pipeline, on the accelerator if torch has one.

    Raises UsageError: files missing or broken, no safetensors, code of its own, or no text-generation model."""
    refuse_code_in(directory)
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

        with quiet():
            own = {"local_files_only": True, "trust_remote_code": False}
            tokenizer = AutoTokenizer.from_pretrained(str(directory), **own)
            model = AutoModelForCausalLM.from_pretrained(str(directory), use_safetensors=True, dtype="auto", **own)
            place = "cuda" if torch.cuda.is_available() else "cpu"
            return pipeline("text-generation", model=model, tokenizer=tokenizer, device=place)
    except Exception as error:  # each part's loader raises its own kinds
        reason = " ".join(str(error).split())[:200]
        found = f"{directory} ({type(error).__name__}: {reason})"
        wanted = "a whole text-generation model with its tokenizer, its weights in safetensors"
        raise UsageError(FIELD, found, wanted, "download it again, or name another") from error


def asker(generator, model: str, examples: dict[str, str]) -> Ask:
    """A function that asks a text-generation pipeline for descriptions of a class.

    Args:
        generator: transformers' pipeline.
        model: what messages call it.
        examples: a prompt of every class, by its name; it tells what kind of thing the name is of."""

    def ask(name: str, answers: int, seed: int) -> list[str]:
        text = instruction(name, examples[name])
        try:
            return texts_of(answered(generator, text, answers, seed), has_template(generator))
        except Exception as error:  # models and tokenizers fail in their own ways
            reason = " ".join(str(error).split())[:200]
            found = f"{model} ({type(error).__name__}: {reason})"
            raise UsageError(FIELD, found, "a model that answers", "name another, or use grammar") from error

    return ask


def instruction(name: str, example: str) -> str:
    """What the model is asked."""
    words = {"lines": str(LINES), "name": name.replace("_", " "), "example": example}
    text = INSTRUCTION
    for word, value in words.items():  # not str.format: a class's name may hold braces
        text = text.replace("{" + word + "}", value)
    return text


def has_template(generator) -> bool:
    """Whether the model is one to talk with."""
    return bool(getattr(generator.tokenizer, "chat_template", None))


def answered(generator, text: str, answers: int, seed: int) -> object:
    """What the pipeline gives for the instruction; the global state of torch's random numbers stays as it was."""
    import torch

    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    asked = [{"role": "user", "content": text}] if has_template(generator) else text + BEGUN
    filler = getattr(generator.tokenizer, "pad_token_id", None)
    filler = getattr(generator.tokenizer, "eos_token_id", None) if filler is None else filler
    with quiet(), torch.random.fork_rng(devices), torch.no_grad():
        torch.manual_seed(seed)
        return generator(
            asked, max_new_tokens=TOKENS, num_return_sequences=answers, return_full_text=False, pad_token_id=filler,
            **SAMPLING,
        )  # fmt: skip


def texts_of(result: object, chat: bool) -> list[str]:
    """The answers' texts. Raises TypeError: the pipeline gave something else."""
    if not isinstance(result, Sequence) or isinstance(result, str) or not result:
        raise TypeError(f"no list of answers, but {type(result).__name__}")
    texts = [each.get("generated_text") if isinstance(each, dict) else None for each in result]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("an answer without text")
    return texts if chat else [BEGUN.strip() + text for text in texts]
