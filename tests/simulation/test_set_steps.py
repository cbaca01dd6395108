"""The steps that make the server's set, each with its file; what they tell is what a run of the config takes."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from cachefl_jax.config import resolve
from cachefl_jax.configs import digits
from cachefl_jax.data.images import fingerprint_of
from cachefl_jax.errors import UsageError
from cachefl_jax.simulation.prepare import prepare
from cachefl_jax.simulation.set_files import folder_name
from cachefl_jax.simulation.set_steps import STEPS, run_steps

pytestmark = pytest.mark.quick
KEYS, IMAGES = 2, 3


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Digits, and three images a class that somebody drew: pictures of some digits' strokes."""
    folder = tmp_path_factory.mktemp("brought")
    from sklearn.datasets import load_digits

    data = load_digits()
    for label in range(10):
        (folder / str(label)).mkdir()
        for number, row in enumerate(np.flatnonzero(data.target == label)[:IMAGES]):
            picture = Image.fromarray(np.uint8(data.images[row] * 15.9)).resize((16, 16))
            picture.save(folder / str(label) / f"{number}.png")
    found = digits.get_config()
    found.synthesis.source, found.synthesis.path = "image_folder", str(folder)
    found.synthesis.images_per_class, found.cache.keys_per_class = IMAGES, KEYS
    found.synthesis.selection = "farthest"
    return resolve(found)


@pytest.fixture(scope="module")
def done(config, tmp_path_factory):
    """All steps, with a copy of the images."""
    workdir = tmp_path_factory.mktemp("steps") / "set"
    run_steps(config, workdir, "account", copy=True)
    return workdir


def read(workdir, name):
    return json.loads((workdir / name).read_text())


def test_the_selection_is_the_runs_own(config, done):
    inputs = prepare(config)
    named = read(done, "selection.json")["keys"]
    lines = [json.loads(line) for line in (done / "provenance.jsonl").read_text().splitlines()]
    for of_class, members in zip(named.values(), inputs.members, strict=True):
        assert of_class == [[lines[row]["file"] for row in rows] for rows in members]
    rows = {row for of_class in inputs.members for rows in of_class for row in rows}
    assert {number for number, line in enumerate(lines) if line["keys"]} == rows
    assert len(rows) == 10 * KEYS
    assert len(lines) == 10 * IMAGES


def test_scores_are_of_every_image_with_its_class(config, done):
    lines = list(csv.DictReader((done / "scores.csv").read_text().splitlines()))
    assert len(lines) == 10 * IMAGES
    told = [json.loads(line)["file"] for line in (done / "provenance.jsonl").read_text().splitlines()]
    assert [line["image"] for line in lines] == told
    assert [line["class"] for line in lines[::IMAGES]] == list(prepare(config).bank.class_names)
    assert all(float(line["sharpness"]) > 0 for line in lines)


def test_a_set_gives_the_same_files_wherever_it_lies(config, done, tmp_path):
    """Images were once named by their whole paths. The copy that the steps leave is such a set."""
    again = config.copy_and_resolve_references()
    again.synthesis.path = str(done / "images")
    run_steps(again, tmp_path / "set", "select")
    for name in ("scores.csv", "selection.json"):
        assert (tmp_path / "set" / name).read_bytes() == (done / name).read_bytes()


def test_measures_are_of_validation_images(config, done):
    found = read(done, "measures.json")
    assert found["real_images"] == len(prepare(config).bank.validation.labels)
    assert read(done, "summary.json")["measures"] == found["all"]


def test_a_copy_is_a_set_that_image_folder_reads_again(config, done):
    again = config.copy_and_resolve_references()
    again.synthesis.path = str(done / "images")
    before, after = (prepare(each) for each in (config, again))
    pixels = [
        sorted(fingerprint_of(np.asarray(inputs.synthetic.images[row])) for row in range(10 * IMAGES))
        for inputs in (before, after)
    ]
    assert pixels[0] == pixels[1]
    lines = [json.loads(line) for line in (done / "provenance.jsonl").read_text().splitlines()]
    assert all((done / line["file"]).is_file() for line in lines)
    assert {line["how"] for line in lines} == {"brought"}
    assert (done / "croissant.json").is_file()


def test_the_pages_are_there(done):
    assert "Datasheet" in (done / "datasheet.html").read_text()
    assert (done / "set.html").stat().st_size > 10_000


def test_steps_end_where_they_are_told_to(config, tmp_path, capsys):
    run_steps(config, tmp_path, "select")
    assert {path.name for path in tmp_path.iterdir()} == {"set.json", "scores.csv", "selection.json"}
    said = capsys.readouterr().out
    assert said.startswith("prompts: none")
    assert "select: 2 keys a class by synthesis.selection=farthest, of 20 of 30 images" in said
    assert "measure" not in said


def test_a_folder_of_something_else_is_left_alone(config, tmp_path):
    (tmp_path / "summary.json").write_text("a run's")
    with pytest.raises(UsageError, match="--workdir: got .*no set.json.*; allowed: a new or empty folder"):
        run_steps(config, tmp_path, "score")
    assert (tmp_path / "summary.json").read_text() == "a run's"
    with pytest.raises(UsageError, match="a file"):
        run_steps(config, tmp_path / "summary.json", "score")


def test_what_another_config_left_goes_and_a_review_stays(config, tmp_path):
    run_steps(config, tmp_path, "select")
    (tmp_path / "review.json").write_text("{}")
    other = config.copy_and_resolve_references()
    other.synthesis.selection = "first"
    run_steps(other, tmp_path, "score")
    assert {path.name for path in tmp_path.iterdir()} == {"set.json", "scores.csv", "review.json"}


def test_real_images_beside_drawn_ones_cost_nothing(tmp_path):
    """The drawn ones' seconds were once multiplied by all images of a hybrid set."""
    hybrid = digits.get_config("smoke")
    hybrid.synthesis.real_images, hybrid.cache.keys_per_class = 1, 2
    run_steps(resolve(hybrid), tmp_path / "set", "account")
    assert read(tmp_path / "set", "summary.json")["cost"]["images"] == 10 * hybrid.synthesis.images_per_class
    lines = [json.loads(line) for line in (tmp_path / "set" / "provenance.jsonl").read_text().splitlines()]
    assert sum(line["how"] == "real" for line in lines) == 10
    assert len(lines) == 10 * (1 + hybrid.synthesis.images_per_class)
    assert all(bool(line["sha256"]) == (line["how"] == "drawn") for line in lines)  # real ones are of no file here


def test_the_command_knows_the_steps():
    from cachefl_jax.commands import synthesize

    assert tuple(STEPS) == synthesize.STEPS


def test_a_class_of_any_name_has_a_folder():
    assert [folder_name(name) for name in ("AC/DC", "..", "a:b", " cat ", "größer")] == [
        "AC_DC", "_", "a_b", "cat", "größer",
    ]  # fmt: skip
