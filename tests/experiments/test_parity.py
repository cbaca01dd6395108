"""The parity script on a tiny model: it tells near from apart, and writes what it was asked for."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest

from experiments.benchmarks import parity

ROOT = pathlib.Path(__file__).parents[2]
TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.mark.parametrize("name", ["CLIP", "Siglip"])
def test_a_case_is_written_read_by_both_and_near(tmp_path, name):
    vision, text = TOWER | {"image_size": 32, "patch_size": 8}, TOWER | {"vocab_size": 60, "eos_token_id": 59}
    case = parity.transformers_case(name, vision, text | {"bos_token_id": 1, "pad_token_id": 1})._replace(vocabulary=60)
    count, image, text = parity.run_case(case, tmp_path)
    assert count > 10_000
    assert parity.close(image)
    assert parity.close(text)
    assert image.spread < 0.999


def test_features_that_differ_are_told_apart():
    theirs = np.random.default_rng(0).normal(size=(4, 16)).astype(np.float32)
    assert parity.close(parity.compare(theirs, theirs))
    nearly = theirs + 1e-2 * np.random.default_rng(1).normal(size=theirs.shape)
    assert not parity.close(parity.compare(nearly, theirs))
    one_row = theirs.copy()
    one_row[3] = -one_row[3]
    assert parity.compare(one_row, theirs).cosine == pytest.approx(-1)


def test_a_parity_tells_the_worst_of_all_features():
    theirs = np.array([[3.0, 4.0], [0.0, 2.0]], np.float32)
    same = parity.compare(theirs, theirs)
    assert same.cosine == pytest.approx(1, abs=1e-12)
    assert same.difference == 0
    assert same.spread == pytest.approx(0.8)
    assert parity.close(same)
    turned = parity.compare(np.array([[3.0, 4.0], [2.0, 0.0]], np.float32), theirs)
    assert turned.cosine == pytest.approx(0, abs=1e-12)
    assert turned.difference == pytest.approx(1)
    assert not parity.close(turned)
    longer = parity.compare(1.001 * theirs, theirs)
    assert longer.cosine == pytest.approx(1, abs=1e-6)
    assert not parity.close(longer), "the length counts too"


def test_an_unknown_model_is_refused_in_one_line():
    words = [sys.executable, "-m", "experiments.benchmarks.parity", "--models=vit-b-33"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("--models: got vit-b-33; allowed: vit-b-32 | ")
    assert len(done.stderr.strip().splitlines()) == 1
