"""Images that a review marks wrong are gone before anything is encoded."""

import json

import numpy as np
import pytest

from cachefl_jax.config import resolve
from cachefl_jax.data.images import Images, LabelledImages, fingerprint_of
from cachefl_jax.errors import UsageError
from cachefl_jax.simulation import server_set
from cachefl_jax.simulation.made_of import files_of
from cachefl_jax.simulation.prepare import parts_of
from cachefl_jax.simulation.reviewed import without_marked
from cachefl_jax.simulation.server_set import load_all
from cachefl_jax.synthesis import SyntheticSet
from cachefl_jax.synthesis.origins import origins

NAMES = ("blue bar", "green disc", "red square")


@pytest.fixture(scope="module")
def pictures(make_pictures, tmp_path_factory):
    return make_pictures(tmp_path_factory.mktemp("pictures"), dict.fromkeys(NAMES, 12))


@pytest.fixture(scope="module")
def brought(make_pictures, tmp_path_factory):
    return make_pictures(tmp_path_factory.mktemp("brought"), dict.fromkeys(NAMES, 5), seed=1)


@pytest.fixture
def configured(pictures, brought, config_for_images):
    """(source, **changes) -> a config whose server has five images of a class, of that source."""

    def make(source: str = "image_folder", **changes):
        fields = {"synthesis.source": source, "synthesis.images_per_class": 5}
        if source == "image_folder":
            fields["synthesis.path"] = str(brought)
        return config_for_images(pictures, **fields | changes)

    return make


def review(images, rows, path, seen=None) -> str:
    """Writes a review that marks these rows of the images."""
    pixels = [origin.pixels for origin in origins(images)]
    wrong = {pixels[row]: {"class": NAMES[images.labels[row]], "why": ""} for row in rows}
    fields = {"set": images.fingerprint, "reviewer": path.stem, "date": "", "seen": seen or pixels, "wrong": wrong}
    path.write_text(json.dumps(fields))
    return str(path)


def pixels_of(images) -> list[str]:
    return [origin.pixels for origin in origins(images)]


@pytest.mark.parametrize("source", ["image_folder", "held_out"])
def test_marked_images_leave_the_set_and_a_note_says_how_many_by_whom(configured, tmp_path, source):
    before_source, before, _ = load_all(configured(source))
    paths = (review(before, (0, 7), tmp_path / "ada.json"), review(before, (7, 14), tmp_path / "bob.json"))
    after_source, after, _ = load_all(configured(source, **{"synthesis.review": paths}))
    assert pixels_of(after) == [pixels for row, pixels in enumerate(pixels_of(before)) if row not in (0, 7, 14)]
    assert after.labels.tolist() == np.delete(before.labels, (0, 7, 14)).tolist()
    assert after.fingerprint != before.fingerprint
    notes = [note for note in after_source.notes if note.startswith("synthesis.review")]
    told = "saw 15 of the server's 15 different images and marked 2 wrong, which become no keys"
    assert notes == [
        f"synthesis.review: {name} {told} ({path})." for name, path in zip(("ada", "bob"), paths, strict=True)
    ]
    # Nobody else's images change.
    assert after_source.train.fingerprint == before_source.train.fingerprint


def test_a_reviewed_set_is_decoded_once(configured, tmp_path):
    """Every later run takes the digests of its pixels from the store."""
    asked = []
    pictures = np.random.default_rng(7).integers(0, 256, (15, 8, 8, 3), np.uint8)
    images = Images(15, lambda row: asked.append(row) or pictures[row], "image {}".format)
    images = LabelledImages(images, np.repeat(np.arange(3, dtype=np.int32), 5), fingerprint_of(pictures))
    path = review(images, (0, 7), tmp_path / "ada.json")
    config, found = configured(**{"synthesis.review": (path,)}), []
    for _ in range(2):
        asked.clear()
        left, _ = without_marked(images, NAMES, config)
        found.append((len(asked), len(left.labels)))
    assert found == [(15, 13), (0, 13)]


def test_drawn_images_leave_the_set_and_real_ones_beside_them_stay(configured, monkeypatch, tmp_path):
    drawn = np.random.default_rng(0).integers(0, 256, (15, 24, 24, 3), np.uint8)
    labels = np.repeat(np.arange(3, dtype=np.int32), 5)
    monkeypatch.setattr(
        server_set, "obtain", lambda request: SyntheticSet(drawn, labels, {"images_sha256": "of the drawn"})
    )
    fields = {"synthesis.pipeline": "some/pipeline", "synthesis.real_images": 1}
    _, before, _ = load_all(configured("diffusers", **fields))
    assert len(before.labels) == 18
    path = review(before, (0, 3, 12), tmp_path / "ada.json")  # one of them real
    source, after, _ = load_all(configured("diffusers", **fields | {"synthesis.review": (path,)}))
    assert pixels_of(after) == [pixels for row, pixels in enumerate(pixels_of(before)) if row not in (3, 12)]
    (note,) = [note for note in source.notes if note.startswith("synthesis.review")]
    assert "marked 2 wrong" in note
    assert "1 more marks are of images that are not among these" in note


def test_a_class_that_is_left_with_too_few_is_told_in_one_line(configured, tmp_path):
    _, before, _ = load_all(configured())
    path = review(before, range(5, 9), tmp_path / "ada.json")
    told = (
        r"^synthesis.review: got 1 images of green disc left, 4 marked wrong; allowed: 2 or more of every class, by "
        r"cache.keys_per_class; mend: raise synthesis.images_per_class"
    )
    with pytest.raises(UsageError, match=told):
        load_all(configured(**{"synthesis.review": (path,)}))
    fewer = {"synthesis.review": (path,), "cache.keys_per_class": 1}
    assert np.bincount(load_all(configured(**fewer))[1].labels).tolist() == [5, 1, 5]


def test_a_review_of_another_set_is_refused(configured, make_pictures, tmp_path, pictures):
    _, images, _ = load_all(configured("held_out"))
    path = review(images, (0,), tmp_path / "ada.json")
    with pytest.raises(UsageError, match="ada.json .by ada, who has seen none of these 15 images.; allowed: a review"):
        load_all(configured(**{"synthesis.review": (path,)}))


def test_paths_of_reviews_are_written_out(configured, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ada")
    config = resolve(configured(**{"synthesis.review": ("one.json", "~/two.json")}))
    assert config.synthesis.review == (f"{tmp_path}/one.json", "/home/ada/two.json")


def test_a_review_that_changed_is_noticed(configured, tmp_path):
    """By the file's size and times, and by what is left of the set."""
    _, images, _ = load_all(configured())
    path = tmp_path / "ada.json"
    config = configured(**{"synthesis.review": (review(images, (0,), path),)})
    files, parts = files_of(config), parts_of(config)
    assert files[f"synthesis.review {path}"]
    review(images, (0, 1), path)
    assert {name for name, value in files_of(config).items() if files.get(name) != value} == {
        f"synthesis.review {path}"
    }
    assert {name for name, value in parts_of(config).items() if parts.get(name) != value} == {"synthetic images"}
