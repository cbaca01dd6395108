"""Texts to ids as the checkpoint's own tokenizer makes them; what it lacks is told in one line."""

import importlib.util
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from transformers import CLIPTokenizer, GemmaTokenizer

from cachefl_jax.clip.checkpoint import POCKET
from cachefl_jax.clip.tokenizer import load_tokenizer
from cachefl_jax.errors import UsageError

TEXTS = ["a photo of the digit three.", "7", "a " * 14]


def test_clips_ids_are_transformers_own_filled_up():
    theirs = CLIPTokenizer.from_pretrained(POCKET)
    expected = theirs(TEXTS, padding="max_length", max_length=16, truncation=True)["input_ids"]
    ids = load_tokenizer(POCKET, 16)(TEXTS)
    assert ids.dtype == np.int32
    np.testing.assert_array_equal(ids, expected)
    assert ids[2, -1] == theirs.eos_token_id


def test_a_text_longer_than_the_tower_is_refused_not_cut(capfd):
    with pytest.raises(
        UsageError, match=r'got 1 of 4 texts that are too long: "a a a .*\.\.\." \(102 tokens\); .* 16 tokens'
    ):
        load_tokenizer(POCKET, 16)([*TEXTS, "a " * 100])
    assert capfd.readouterr() == ("", "")


def test_openais_two_files_are_enough(tmp_path):
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(POCKET / name, tmp_path)
    np.testing.assert_array_equal(load_tokenizer(tmp_path, 16)(TEXTS), load_tokenizer(POCKET, 16)(TEXTS))


@pytest.mark.parametrize("lines", [0, 40, 90])
def test_merges_cut_short_are_refused_where_transformers_gives_other_tokens(tmp_path, lines):
    shutil.copy(POCKET / "vocab.json", tmp_path)
    whole = (POCKET / "merges.txt").read_text().splitlines(keepends=True)
    (tmp_path / "merges.txt").write_text("".join(whole[:lines]))
    with pytest.raises(UsageError, match=r"merges.txt \(no merge for \d+ of 604 tokens: .*mend: download both"):
        load_tokenizer(tmp_path, 16)


def test_an_encoder_is_loaded_without_torch():
    code = "import sys; from cachefl_jax.clip import load_encoder; load_encoder('pocket').tokenizer(['7']); "
    code += "print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("name", ["CLIPTokenizer", "CLIPTokenizerFast", "SiglipTokenizer", "GemmaTokenizer", "Other"])
def test_a_directory_without_the_tokenizers_files_is_refused(tmp_path, name):
    """transformers would make an empty vocabulary of it, and every text the same."""
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name}))
    with pytest.raises(UsageError, match=r"\(no tokenizer\); allowed: .*(json|txt|model); mend: take the files"):
        load_tokenizer(tmp_path, 16)


def test_broken_files_are_refused_in_one_line(tmp_path):
    shutil.copytree(POCKET, tmp_path, dirs_exist_ok=True)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(UsageError, match="files that transformers' CLIPTokenizer reads") as caught:
        load_tokenizer(tmp_path, 16)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_that_cannot_fill_texts_up_is_refused(tmp_path):
    shutil.copytree(POCKET, tmp_path, dirs_exist_ok=True)
    write_setting(tmp_path, pad_token=None)
    with pytest.raises(UsageError, match="tokenizer_config.json: pad_token: got None; allowed: the token that fills"):
        load_tokenizer(tmp_path, 16)


@pytest.fixture
def gemma(tmp_path):
    """SigLIP 2's kind of tokenizer: upper and lower case apart, an end token, filled up at the right."""
    words = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *"abcABC"]
    tokenizer = GemmaTokenizer(vocab={word: index for index, word in enumerate(words)}, merges=[], padding_side="right")
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def write_setting(directory, **fields) -> None:
    path = directory / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_siglip_2_texts_are_lowered_unless_its_settings_say_otherwise(gemma):
    ids = load_tokenizer(gemma, 6)(["abc", "ABC", "b"])
    assert ids.shape == (3, 6)
    np.testing.assert_array_equal(ids[0], ids[1])
    assert ids[2].tolist()[-3:] == [0, 0, 0]
    write_setting(gemma, do_lower_case=False)
    as_written = load_tokenizer(gemma, 6)(["abc", "ABC"])
    np.testing.assert_array_equal(as_written[0], ids[0])
    assert not np.array_equal(as_written[0], as_written[1])


def test_a_tokenizer_of_another_class_is_left_to_transformers(gemma):
    write_setting(gemma, tokenizer_class="PreTrainedTokenizerFast")
    assert load_tokenizer(gemma, 6)(["ab"]).shape == (1, 6)


def test_without_sentencepiece_its_tokenizers_are_refused(tmp_path, monkeypatch):
    (tmp_path / "spiece.model").write_bytes(b"")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="SentencePiece tokenizer.*mend: pip install .sentencepiece"):
        load_tokenizer(tmp_path, 64)


def test_siglips_ids_are_transformers_own(tmp_path):
    sentencepiece = pytest.importorskip("sentencepiece", reason="SigLIP's tokenizer needs the package sentencepiece")
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("a photo of a cat\na photo of a dog\nthe digit three\n" * 20)
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(tmp_path / "spiece"), vocab_size=40, hard_vocab_limit=False, minloglevel=2
    )
    from transformers import SiglipTokenizer

    theirs = SiglipTokenizer(str(tmp_path / "spiece.model"))
    texts = ["A photo, of a CAT!", "the digit three"]
    expected = theirs(texts, padding="max_length", max_length=64, truncation=True)["input_ids"]
    ids = load_tokenizer(tmp_path, 64)(texts)
    np.testing.assert_array_equal(ids, expected)
    np.testing.assert_array_equal(ids[0], load_tokenizer(tmp_path, 64)(["a photo of a cat"])[0])
