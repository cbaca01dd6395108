"""A checkpoint's own tokenizer, through transformers, as one function: texts to token ids [B, T].

transformers is imported when a tokenizer is loaded, and torch is not: ``AutoTokenizer`` would bring it along, so that
the classes which CLIP and SigLIP checkpoints name are taken by their own names.
"""

import importlib.util
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from cachefl_jax.clip.checkpoint import FIELD, read_fields
from cachefl_jax.errors import UsageError

CLASSES = ("CLIPTokenizer", "SiglipTokenizer", "GemmaTokenizer", "Siglip2Tokenizer")
# Either of these sets of files makes a tokenizer.
FILES = {"CLIPTokenizer": (("tokenizer.json",), ("vocab.json", "merges.txt")), "SiglipTokenizer": (("spiece.model",),)}
OTHER = (("tokenizer.json",), ("tokenizer.model",), ("spiece.model",))


def load_tokenizer(directory: pathlib.Path, length: int) -> Callable[[Sequence[str]], np.ndarray]:
    """The function from B texts to their token ids, int32 [B, T].

    Args:
        directory: the checkpoint's.
        length: T, the text tower's: shorter texts are filled up, longer ones cut, as the tokenizer's settings say.

    Raises:
        UsageError: tokenizer files are missing or broken, or a package that they need is not installed.
    """
    path = directory / "tokenizer_config.json"
    settings = read_fields(path) if path.is_file() else {}
    name = class_name(directory, settings)
    check_files(directory, name)
    try:
        tokenizer = tokenizer_class(name).from_pretrained(str(directory))
    except Exception as error:  # the tokenizers' own parsers raise bare Exceptions
        reason = " ".join(str(error).split())[:200]
        found, mend = f"{directory} ({type(error).__name__}: {reason})", "download them again"
        raise UsageError(FIELD, found, f"files that transformers' {name} reads", mend) from error
    # Both SigLIPs learnt from lower-case texts. SigLIP 1's tokenizer lowers them itself; SigLIP 2's, Gemma's, does not.
    lower = name == "GemmaTokenizer" and settings.get("do_lower_case", True)

    def tokenize(texts: Sequence[str]) -> np.ndarray:
        texts = [text.lower() if lower else text for text in texts]
        filled = tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="np")
        return filled["input_ids"].astype(np.int32)

    return tokenize


def class_name(directory: pathlib.Path, settings: dict) -> str:
    """The tokenizer's class, without the "Fast" that transformers 5 has dropped; CLIP's where nothing else is said."""
    if settings.get("tokenizer_class"):
        return str(settings["tokenizer_class"]).removesuffix("Fast")
    return "SiglipTokenizer" if (directory / "spiece.model").is_file() else "CLIPTokenizer"


def check_files(directory: pathlib.Path, name: str) -> None:
    """Refuses what transformers would pass over in silence: without files it makes an empty vocabulary."""
    sets = FILES.get(name, OTHER)
    if not any(all((directory / file).is_file() for file in files) for files in sets):
        allowed = " | ".join(" and ".join(files) for files in sets)
        raise UsageError(FIELD, f"{directory} (no tokenizer)", allowed, "take the files from the checkpoint's page")
    if name == "SiglipTokenizer" and importlib.util.find_spec("sentencepiece") is None:
        found = f"{directory} (a SentencePiece tokenizer)"
        raise UsageError(FIELD, found, "only with the package sentencepiece", 'pip install "sentencepiece>=0.2.3"')


def tokenizer_class(name: str):
    import transformers

    return getattr(transformers, name if name in CLASSES else "AutoTokenizer")
