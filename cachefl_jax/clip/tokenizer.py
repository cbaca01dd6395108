"""A checkpoint's own tokenizer, through transformers, as one function: texts to token ids [B, T].

transformers is imported when a tokenizer is loaded, and torch is not: ``AutoTokenizer`` would bring it along, so that
the classes which CLIP and SigLIP checkpoints name are taken by their own names. Code that comes with a checkpoint is
never run, and nobody is asked on the terminal whether it may.
"""

import importlib.util
import json
import pathlib
from collections.abc import Sequence

import numpy as np

from cachefl_jax.clip.checkpoint import FIELD, read_fields
from cachefl_jax.errors import UsageError, listing
from cachefl_jax.foreign_code import refuse_code

CLASSES = ("CLIPTokenizer", "SiglipTokenizer", "GemmaTokenizer", "Siglip2Tokenizer")
# Either of these sets of files makes a tokenizer.
FILES = {"CLIPTokenizer": (("tokenizer.json",), ("vocab.json", "merges.txt")), "SiglipTokenizer": (("spiece.model",),)}
MOST_NAMED = 8  # of the texts that are too long
OTHER = (("tokenizer.json",), ("tokenizer.model",), ("spiece.model",))


class Tokenizer:
    """B texts to their token ids, int32 [B, T], T = `length`: shorter ones are filled up, longer ones refused."""

    def __init__(self, tokenizer, length: int, lower: bool = False):
        self.tokenizer, self.length, self.lower = tokenizer, length, lower
        # The tokens that start and end a text; a tokenizer may have a start token that it does not put there.
        self.start: int | None = tokenizer.bos_token_id
        self.end: int | None = tokenizer.eos_token_id

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Token ids [B, T].

        Raises UsageError: a text has more than T tokens. What would be cut off may well be the class's name."""
        texts = [text.lower() if self.lower else text for text in texts]
        # Filled up but not cut: rows beyond T keep their length, and are told by it.
        rows = self.tokenizer(texts, padding="max_length", max_length=self.length, truncation=False, verbose=False)
        rows = rows["input_ids"]
        longer = {text: len(row) for text, row in zip(texts, rows, strict=True) if len(row) > self.length}
        if longer:
            named = listing((f'"{shortened(text)}" ({count} tokens)' for text, count in longer.items()), MOST_NAMED)
            found = f"{len(longer)} of {len(set(texts))} texts that are too long: {named}"
            allowed = f"at most {self.length} tokens a text, the text tower's, its first and last included"
            raise UsageError("clip.templates", found, allowed, "shorten the template, or the names of these classes")
        return np.array(rows, np.int32)


def shortened(text: str, most: int = 100) -> str:
    """The text, or its beginning where it is longer than a line can hold."""
    return text if len(text) <= most else f"{text[:most]}..."


def load_tokenizer(directory: pathlib.Path, length: int) -> Tokenizer:
    """The checkpoint's tokenizer, for texts of `length` tokens, T.

    Raises UsageError: tokenizer files are missing or broken, bring code of their own, or need a package that is not
    installed."""
    path = directory / "tokenizer_config.json"
    settings = read_fields(path) if path.is_file() else {}
    refuse_code(path, settings)
    name = class_name(directory, settings)
    check_files(directory, name)
    try:
        tokenizer = read_tokenizer(name, directory)
    except Exception as error:  # the tokenizers' own parsers raise bare Exceptions
        reason = " ".join(str(error).split())[:200]
        found, mend = f"{directory} ({type(error).__name__}: {reason})", "download them again"
        raise UsageError(FIELD, found, f"files that transformers' {name} reads", mend) from error
    if name == "CLIPTokenizer" and not (directory / "tokenizer.json").is_file():
        check_merges(directory)
    if tokenizer.pad_token is None:
        raise UsageError(f"{path}: pad_token", None, "the token that fills texts up", "take the checkpoint's own file")
    # Both SigLIPs learnt from lower-case texts. SigLIP 1's tokenizer lowers them itself; SigLIP 2's, Gemma's, does not.
    return Tokenizer(tokenizer, length, name == "GemmaTokenizer" and settings.get("do_lower_case", True))


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


def check_merges(directory: pathlib.Path) -> None:
    """Refuses a ``merges.txt`` that was cut short: transformers reads it in silence, and texts get other tokens.

    Every token of ``vocab.json`` of more than one character must come of a merge, but for special ones, in <>.

    Raises UsageError: tokens have no merge; the first few are named."""
    made = {line.replace(" ", "") for line in (directory / "merges.txt").read_text(encoding="utf-8").splitlines()}
    tokens = json.loads((directory / "vocab.json").read_text(encoding="utf-8"))
    longer = (token for token in tokens if len(token.removesuffix("</w>")) > 1)
    absent = [token for token in longer if token not in made and not (token.startswith("<") and token.endswith(">"))]
    if absent:
        found = f"{directory / 'merges.txt'} (no merge for {len(absent)} of {len(tokens)} tokens: {listing(absent)})"
        raise UsageError(FIELD, found, "merges of all tokens in vocab.json", "download both files again")


def read_tokenizer(name: str, directory: pathlib.Path):
    """transformers' tokenizer from a checkpoint's own files, by code of transformers alone."""
    import transformers

    if name in CLASSES:
        return getattr(transformers, name).from_pretrained(str(directory), local_files_only=True)
    kind = getattr(transformers, name, None)
    if not (isinstance(kind, type) and issubclass(kind, transformers.PreTrainedTokenizerBase)):
        # AutoTokenizer would ask for its code, or take another.
        raise ValueError(f"transformers has no {name}")
    return transformers.AutoTokenizer.from_pretrained(str(directory), local_files_only=True, trust_remote_code=False)
