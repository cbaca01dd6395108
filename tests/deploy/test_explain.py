"""`cachefl explain`: each prediction beside the images that the nearest keys came from."""

import base64
import functools
import io
import json
import re
import shutil

import numpy as np
import pytest
from command_line import assert_refused
from PIL import Image
from safetensors.numpy import load_file, save_file

from cachefl_jax.config import from_json, resolve
from cachefl_jax.data.file_bytes import in_colour
from cachefl_jax.deploy.model import read_model
from cachefl_jax.deploy.pictures import features_of, find_images
from cachefl_jax.report.explained import Explained, Key, Near, Page, write_page
from cachefl_jax.simulation.explain import explanations, read_start
from cachefl_jax.simulation.prepare import prepare
from cachefl_jax.storage.files import read_json
from cachefl_jax.synthesis.origins import origins

pytestmark = pytest.mark.quick


@pytest.fixture
def command(started):
    return functools.partial(started, "explain")


@pytest.fixture
def moved(pictured, tmp_path):
    """A copy of the run's folder, to be changed."""
    folder = tmp_path / "run"
    shutil.copytree(pictured[0], folder)
    return folder


def test_the_nearest_keys_and_the_images_that_they_started_from(pictured):
    workdir, root = pictured
    files = find_images([str(root / "green disc"), str(root / "blue bar")])[::5]
    model = read_model(workdir / "cache.safetensors")
    page = explanations(read_start(workdir), files, 2)
    features = features_of(model, files)
    flat = model.keys.reshape(-1, model.width)
    cosines = features @ (flat / np.linalg.norm(flat, axis=1, keepdims=True)).T
    config = resolve(from_json(read_json(workdir / "config.json")))
    inputs = prepare(config)
    found, per_class = origins(inputs.synthetic), model.keys.shape[1]
    first = inputs.server.synthetic.reshape(-1, model.width)
    for row, told in enumerate(page.explained):
        assert told.name == files[row]
        assert told.predicted in model.class_names
        assert 1 / 3 < told.probability <= 1
        expected = np.argsort(-cosines[row])[:2]
        for near, place in zip(told.nearest, expected, strict=True):
            label, number = divmod(int(place), per_class)
            assert (near.key.class_name, near.key.number) == (model.class_names[label], number)
            assert near.similarity == pytest.approx(cosines[row, place], abs=1e-5)
            start = flat[place] @ first[place] / np.linalg.norm(flat[place]) / np.linalg.norm(first[place])
            assert near.key.start == pytest.approx(start, abs=1e-5)
            assert near.key.start < 1 - 1e-6  # it was tuned
            (member,) = near.key.rows
            assert near.key.origins == (found[member],)
            # The image is one whose features the key was at round 0.
            np.testing.assert_allclose(inputs.bank.synthetic.features[member], first[place], atol=1e-5)
            assert model.class_names[label] in found[member].name


def test_the_command_writes_a_page_that_needs_nothing_else(pictured, command, tmp_path):
    workdir, root = pictured
    files = find_images([str(root / "red square")])[:3]
    done = command(f"--workdir={workdir}", *files, f"--output={tmp_path / 'explain.html'}", "--nearest=1")
    assert (done.returncode, done.stdout.strip()) == (0, str(tmp_path / "explain.html")), done.stderr
    text = (tmp_path / "explain.html").read_text("utf-8")
    images = re.findall(r'<img src="data:image/webp;base64,([^"]*)"', text)
    assert len(images) == 2 * len(files) == len(re.findall("<img", text))
    picture = Image.open(io.BytesIO(base64.b64decode(images[0])))
    np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), in_colour(Image.open(files[0])))
    assert all(file in text for file in files)
    assert "A key was tuned by the clients; an image is where it started" in text
    assert not re.search("https?://|<script", text)


def test_texts_are_no_markup_and_a_key_of_many_images_shows_some(tmp_path, pictured):
    start = read_start(pictured[0])
    found, attack = origins(start.images), "<script>alert(1)</script>"
    rows = tuple(range(6))
    key = Key(attack, 3, 0.875, rows, tuple(found[row]._replace(prompt=attack) for row in rows))
    page = Page(attack, "cachefl", [start.images.images[0]], [Explained(attack, attack, 0.5, (Near(key, 0.25),))],
                start.images)  # fmt: skip
    write_page(tmp_path / "page.html", page)
    text = (tmp_path / "page.html").read_text("utf-8")
    assert "<script" not in text
    assert text.count("<img") == 1 + 4
    for words in ("and 2 more images", "similarity 0.250", "now to start 0.875", "key 3", "50.0%"):
        assert words in text


def test_what_cannot_be_explained_is_told_in_one_line(pictured, command, moved, tmp_path, make_bank):
    workdir, root = pictured
    picture, output = find_images([str(root)])[0], f"--output={tmp_path / 'page.html'}"
    assert_refused(command(f"--workdir={workdir}", output), "paths: got nothing")
    assert_refused(command(f"--workdir={workdir}", picture), "--output")
    assert_refused(command(f"--workdir={workdir}", picture, "--output=page.csv"), "a .html file")
    assert_refused(command(f"--workdir={tmp_path}", picture, output), "no config.json")
    assert_refused(command(f"--workdir={workdir}", tmp_path / "none.png", output), "no such file")
    config = (moved / "config.json").read_text()

    def with_config(old: str, new: str) -> None:
        assert old in config
        (moved / "config.json").write_text(config.replace(old, new))

    with_config('"method": "cachefl"', '"method": "ridge"')
    shutil.copy(workdir / "compared" / "ridge" / "model.safetensors", moved)
    assert_refused(command(f"--workdir={moved}", picture, output), "of the method ridge, which has no cache")
    with_config('"name": "image_folder"', '"name": "feature_bank"')
    assert_refused(command(f"--workdir={moved}", picture, output), "a run on a feature bank")
    (moved / "config.json").write_text(config)
    keys = np.roll(load_file(moved / "cache_init.safetensors")["keys"], 1, axis=1)
    names = read_model(moved / "cache.safetensors").told["class_names"]
    save_file({"keys": keys}, moved / "cache_init.safetensors", metadata={"class_names": json.dumps(names)})
    assert_refused(command(f"--workdir={moved}", picture, output), "its keys started from other images")
    (moved / "cache.safetensors").unlink()
    assert_refused(command(f"--workdir={moved}", picture, output), "no cache.safetensors")
    assert not (tmp_path / "page.html").exists()
