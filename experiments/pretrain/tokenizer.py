"""The pocket models' tokenizer: CLIP's byte-pair encoding with the merges that our captions need."""

import json
import pathlib

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from experiments.pretrain import rendered_type

START, END = "<|startoftext|>", "<|endoftext|>"
LENGTH = 16


def every_caption() -> list[str]:
    """All captions that can be drawn: each subject, template and style at least once."""
    rng = np.random.default_rng(0)
    glyphs = np.repeat(np.arange(len(rendered_type.CHARACTERS)), 200)
    styles = rng.random((len(glyphs), len(rendered_type.STYLES))) < 0.3
    return sorted({rendered_type.caption(rng, glyph, row) for glyph, row in zip(glyphs, styles, strict=True)})


def build(directory: pathlib.Path) -> CLIPTokenizer:
    """Learns merges until each word of the captions is one token; writes Hugging Face's tokenizer files."""
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>", continuing_subword_prefix=""))
    learner.normalizer = normalizers.Lowercase()
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    # CLIP splits on spaces; ByteLevel would keep them as a prefix, so the words go in one by one.
    words = [word for line in every_caption() for word in line.lower().replace(".", " .").split()]
    trainer = trainers.BpeTrainer(vocab_size=4096, min_frequency=1, end_of_word_suffix="</w>", show_progress=False)
    learner.train_from_iterator(sorted(words), trainer)
    merges = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = letters + [f"{letter}</w>" for letter in letters] + ["".join(pair) for pair in merges] + [START, END]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=LENGTH)
    tokenizer.save_pretrained(directory)
    write_openai_files(directory, vocabulary, merges)
    return tokenizer


def write_openai_files(directory: pathlib.Path, vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> None:
    """vocab.json and merges.txt, which older readers look for beside tokenizer.json."""
    (directory / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (directory / "merges.txt").write_text("\n".join(lines) + "\n")
