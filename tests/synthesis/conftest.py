"""A language model of a few kilobytes, and a pipeline that draws noise."""

import contextlib
import pathlib

import numpy as np
import pytest
import torch
from synthesis.drawn_sets import noise
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from cachefl_jax.synthesis import generator

WORDS = ("<end>", "\n", " cat", " dog", " red", " night", " grass", " old", " wet")


@pytest.fixture(scope="session")
def make_language_model(tmp_path_factory):
    """(chat_template=None) -> the folder of a GPT-2 of random weights that says WORDS, all about equally often and
    without end."""

    def make(chat_template: str | None = None) -> pathlib.Path:
        folder = tmp_path_factory.mktemp("language_model")
        words = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="<end>"))
        words.pre_tokenizer = pre_tokenizers.Split(Regex(r"\n| ?[^\s]+"), "isolated")
        words.decoder = decoders.Fuse()
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>", chat_template=chat_template)
        tokenizer.save_pretrained(folder)
        torch.manual_seed(0)
        sizes = {"n_positions": 600, "n_embd": 8, "n_layer": 1, "n_head": 1, "vocab_size": len(WORDS)}
        model = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0))
        model.generation_config.eos_token_id = None  # it never ends by itself
        model.save_pretrained(folder)
        return folder

    return make


@pytest.fixture
def calls(monkeypatch) -> list[list[str]]:
    """The prompts of every batch that was drawn; the drawing itself is replaced by noise from the seeds."""
    made = []

    @contextlib.contextmanager
    def fake(pipeline, prompts, how):
        def draw(some, seeds):
            made.append(list(some))
            return np.stack([noise(seed) for seed in seeds]), np.zeros(len(seeds), bool)

        yield draw

    monkeypatch.setattr(generator, "drawing", fake)
    return made


@pytest.fixture
def stop(monkeypatch, calls):
    """(count) -> nothing; a drawing is stopped before batch `count`."""
    drawing = generator.drawing

    def at(count: int) -> None:
        @contextlib.contextmanager
        def fake(*arguments):
            with drawing(*arguments) as draw:

                def stopping(some, seeds):
                    if len(calls) == count:
                        raise KeyboardInterrupt
                    return draw(some, seeds)

                yield stopping

        monkeypatch.setattr(generator, "drawing", fake)

    return at
