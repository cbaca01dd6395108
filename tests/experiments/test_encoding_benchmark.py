"""The encoding benchmark: both sides give the same features before a time is read, and the tables say what was seen."""

import numpy as np
import pytest
from transformers import CLIPConfig

from cachefl_jax.errors import UsageError
from experiments.benchmarks import encoding

pytestmark = pytest.mark.quick

TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    config = CLIPConfig(vision_config={**TOWER, "image_size": 32, "patch_size": 8}, text_config=TOWER)
    path = tmp_path_factory.mktemp("encoding")
    encoding.write_inputs(path, 11, config)
    return path


def test_both_sides_give_the_same_features_from_files_and_from_pixels(folder):
    from cachefl_jax.clip.images import read_preparation, shaped

    preparation = read_preparation(folder / "clip")
    pixels = np.stack([shaped(picture, preparation) for picture in encoding.pictures_in(folder / "images")])
    sides = [make(folder, 4, pixels) for make in (encoding.ours, encoding.theirs)]
    for job in encoding.Side._fields:
        seconds = encoding.in_turns([getattr(side, job) for side in sides], rounds=2)
        assert [len(times) for times in seconds] == [2, 2]
        assert min(min(times) for times in seconds) > 0


def test_sides_that_differ_are_not_timed():
    features = np.eye(3, 4)
    with pytest.raises(UsageError, match=r"features of both sides: got 0.01 apart; allowed: less than 1e-05"):
        encoding.in_turns([lambda: features, lambda: features + 0.01], rounds=1)
    with pytest.raises(UsageError, match="nan apart"):
        encoding.in_turns([lambda: features, lambda: features * np.nan], rounds=1)


def test_the_table_tells_how_much_faster_ours_is():
    text = encoding.time_table("files", 100, [[2.0, 1.0, 4.0], [5.0, 4.0, 6.0]])
    ours, theirs = text.splitlines()[-2:]
    assert [cell.strip() for cell in ours.split("|")[2:4]] == ["50.0", "100"]
    assert [cell.strip() for cell in theirs.split("|")[5:7]] == ["2.50x", "4.00x"]


def test_memory_is_read_in_processes_of_their_own(folder):
    text = encoding.memory_table(folder, 4)
    assert all(name in text for name in encoding.SIDES)
    assert "MiB" in text.splitlines()[-1]
