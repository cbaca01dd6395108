"""A run's checkpoint on other images, such as a single site's; and what the shipped config takes of a folder."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from cachefl_jax.commands.evaluate import evaluate
from cachefl_jax.config import from_json, resolve
from cachefl_jax.data import suite
from cachefl_jax.data.sources import load_images
from cachefl_jax.errors import UsageError
from cachefl_jax.simulation.train import train_and_evaluate
from cachefl_jax.storage.files import read_json
from experiments.configs import images

UMLAUTS = ("Öl", "grün", "weiß")
NAMES = ("blue bar", "green disc", "red square")
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": ""}
ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def trained(make_pictures, config_for_images, tmp_path_factory):
    """A run on images whose classes were named by the user, and its folder."""
    root = make_pictures(tmp_path_factory.mktemp("pictures"), dict.fromkeys(NAMES, 12))
    workdir = tmp_path_factory.mktemp("runs") / "run"
    fields = {"data.class_names": NAMES, "local.learning_rate": 0.01, "rounds": 5}
    summary = train_and_evaluate(config_for_images(root, **fields), workdir)
    return workdir, summary


@pytest.fixture
def evaluate_on(trained):
    """(folder of images, **changes) -> the accuracies of the run's last checkpoint there."""

    def check(root: pathlib.Path, **changes) -> dict:
        config = from_json(read_json(trained[0] / "config.json"))
        config.data.path = str(root)
        config.data.update(changes)
        return evaluate(config, trained[0], None)

    return check


@pytest.mark.quick
def test_a_site_that_lacks_classes_is_evaluated(trained, evaluate_on, make_pictures, tmp_path, capsys):
    site = make_pictures(tmp_path, {"RED_square": 20, "blue bar": 15}, seed=1)
    found = evaluate_on(site)
    assert evaluate_on(site, group_column="folder") == found
    assert found["test_accuracy"] > 1 / 3
    assert found["validation_accuracy"] is None
    assert found["rows"] == {"test": 35, "validation": None}  # nothing is held out of images that were brought
    errors = capsys.readouterr().err
    assert "note: Classes without images in the test split (1): green disc." in errors
    assert "note: All 35 images are tested on" in errors
    assert "training split" not in errors
    alone = make_pictures(tmp_path / "one", {"red square": 5}, seed=2)
    assert 0 <= evaluate_on(alone)["test_accuracy"] <= 1


@pytest.mark.quick
def test_images_that_the_run_trained_on_are_counted(trained, evaluate_on, make_pictures, tmp_path, capsys):
    """By their bytes, whatever their names; the run's own test images are none of them."""
    config = resolve(from_json(read_json(trained[0] / "config.json")))
    source = load_images(config)
    make_pictures(tmp_path, {"red square": 4}, seed=5)
    for number, (split, row) in enumerate([(source.train, 0), (source.train, 5), (source.test, 0)]):
        place = tmp_path / NAMES[split.labels[row]]
        place.mkdir(exist_ok=True)
        shutil.copy(split.images.name(row), place / f"copy {number}.png")
    assert evaluate_on(tmp_path)["rows"]["test"] == 7
    assert "note: 2 of 7 test images are in the run's training split, byte for byte" in capsys.readouterr().err
    found = evaluate(config, trained[0], None)
    assert found["rows"] == {name: trained[1]["dataset"][name] for name in ("test", "validation")}
    assert "training split" not in capsys.readouterr().err
    changed = evaluate_on(pathlib.Path(config.data.path), test_share=0.8)  # other rows of the run's own are tested on
    assert changed["rows"]["test"] > found["rows"]["test"]
    assert "in the run's training split" in capsys.readouterr().err


@pytest.mark.quick
def test_a_site_is_evaluated_class_by_class_as_the_whole_is(trained, evaluate_on, make_pictures, tmp_path):
    """What a site lacks moves no label: the parts' correct rows add up to those of the whole."""
    counts = {f"{split}/{name}": count for split, count in (("train", 1), ("test", 10)) for name in NAMES}
    whole = make_pictures(tmp_path / "whole", counts, seed=3)
    correct = evaluate_on(whole, validation_share=0.0)["test_accuracy"] * 30
    parts = []
    for name in NAMES:
        for split in ("train", "test"):
            (tmp_path / name / split).mkdir(parents=True)
            (whole / split / name).rename(tmp_path / name / split / name)
        parts.append(evaluate_on(tmp_path / name, validation_share=0.0)["test_accuracy"] * 10)
    assert min(parts) > 0
    assert np.isclose(sum(parts), correct)


@pytest.mark.quick
def test_classes_that_the_run_does_not_know_are_refused(evaluate_on, make_pictures, tmp_path):
    make_pictures(tmp_path, {"red square": 5, "blue bar": 5})
    (tmp_path / "blue bar").rename(tmp_path / "zebra")
    with pytest.raises(
        UsageError, match=r"data.path: got classes unknown \(1\): zebra; allowed: the run's own, blue bar"
    ):
        evaluate_on(tmp_path)


@pytest.mark.quick
def test_an_evaluation_neither_needs_nor_encodes_training_images(evaluate_on, make_pictures, tmp_path):
    root = make_pictures(tmp_path, {f"{split}/red square": 4 for split in ("train", "test")})
    for path in (root / "train").rglob("*.png"):
        path.write_bytes(b"no image")
    assert 0 <= evaluate_on(root, validation_share=0.0)["test_accuracy"] <= 1


@pytest.mark.quick
def test_a_named_data_sets_site_needs_not_all_its_classes(make_images_of, config_for_images, tmp_path):
    known = suite.named("cifar10")
    root = make_images_of(tmp_path / "all", known.class_names, 4)
    config = config_for_images(root, rounds=1, **{"data.name": "cifar10", "cache.keys_per_class": 1})
    config.synthesis.images_per_class, config.clip.templates = 1, ("{}",)
    train_and_evaluate(config, tmp_path / "run")
    config.data.path = str(make_images_of(tmp_path / "site", ("dog", "ship"), 6))
    assert 0 <= evaluate(config, tmp_path / "run", None)["test_accuracy"] <= 1


@pytest.fixture
def make_images_of():
    def make(root: pathlib.Path, names: tuple[str, ...], count: int) -> pathlib.Path:
        from PIL import Image

        rng = np.random.default_rng(0)
        for name in names:
            (root / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / name / f"{number}.png")
        return root

    return make


@pytest.mark.parametrize("name", ["image_folder", "hub", "eurosat"])
def test_all_training_rows_are_taken(name):
    assert images.get_config(name).data.shots == 0


@pytest.fixture(scope="module")
def umlauts(make_pictures, tmp_path_factory):
    """Class folders and files with umlauts, and a split file that lists them."""
    root = make_pictures(tmp_path_factory.mktemp("bilder") / "Gemälde", dict.fromkeys(NAMES, 8))
    for name, other in zip(NAMES, UMLAUTS, strict=True):
        (root / name).rename(root / other)
    for path in list(root.rglob("000.png")):
        path.rename(path.with_name("äöü.png"))
    return root


def test_a_program_of_ones_own_under_an_ascii_locale_gets_class_names_as_text(umlauts):
    content = {"train": [[f"{UMLAUTS[0]}/äöü.png", UMLAUTS[0]], [f"{UMLAUTS[1]}/001.png", UMLAUTS[1]]]}
    (umlauts / "split.json").write_bytes(json.dumps(content, ensure_ascii=False).encode())
    code = """
import sys
from cachefl_jax.config import default
from cachefl_jax.data import folder
data = default().data
data.path = sys.argv[1]
for data.split_file in ("", "split.json"):
    found = folder.load(data)
    print(ascii(found.class_names), found.train.images[0].size, found.train.fingerprint)
"""
    words = [sys.executable, "-c", code, str(umlauts)]
    printed = [
        subprocess.run(words, env=os.environ | environment, capture_output=True, check=True).stdout
        for environment in (ASCII, {"PYTHONUTF8": "1"})
    ]
    assert printed[0] == printed[1]
    assert ascii(tuple(sorted(UMLAUTS))).encode() in printed[0]


@pytest.mark.quick
def test_names_with_umlauts_work_under_an_ascii_locale(umlauts, tmp_path):
    words = [sys.executable, "-m", "experiments.run", "--config=experiments/configs/images.py:image_folder"]
    words += [f"--config.data.path={umlauts}", "--config.synthesis.source=held_out", "--config.clip.checkpoint=pocket"]
    words += ["--config.clip.key_views=0", "--config.synthesis.images_per_class=2", "--config.cache.keys_per_class=2"]
    words += ["--config.partition.clients=2", "--config.rounds=1", "--config.methods=('cachefl',)"]
    words += ["--config.clip.templates=('{}',)", f"--workdir={tmp_path / 'Läufe'}"]
    done = subprocess.run(words, cwd=ROOT, env=os.environ | ASCII, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    summary = read_json(tmp_path / "Läufe" / "summary.json")
    assert summary["dataset"]["class_names"] == sorted(UMLAUTS)
    page = (tmp_path / "Läufe" / "report.html").read_text()
    assert all(name in page for name in UMLAUTS)
