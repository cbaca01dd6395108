"""The server's images: set apart from training, brought along, or asked of a generator."""

import json
import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image

from cachefl_jax.config import default, validate
from cachefl_jax.config.data import SUITE
from cachefl_jax.data import folder, suite
from cachefl_jax.data.file_bytes import shared_rows
from cachefl_jax.data.images import LabelledImages, select
from cachefl_jax.errors import UsageError
from cachefl_jax.simulation import server_set
from cachefl_jax.simulation.keys import member_rows
from cachefl_jax.simulation.prepare import prepare
from cachefl_jax.simulation.server_set import load_all, texts_of
from cachefl_jax.synthesis import SyntheticSet

COUNTS = {"red square": 20, "green disc": 16, "blue bar": 12}
NAMES = ("blue bar", "green disc", "red square")  # as folders are sorted


@pytest.fixture(scope="module")
def pictures(make_pictures, tmp_path_factory):
    return make_pictures(tmp_path_factory.mktemp("pictures"), COUNTS)


def files_of(split: LabelledImages) -> list[str]:
    return [split.images.name(row) for row in range(len(split.labels))]


def per_class(split: LabelledImages) -> list[int]:
    return np.bincount(split.labels, minlength=len(NAMES)).tolist()


def test_the_server_holds_images_that_no_client_and_no_other_split_has(pictures, config_for_images):
    source, images, manifest = load_all(config_for_images(pictures))
    assert source.class_names == NAMES
    assert per_class(images) == [3, 3, 3]
    # Of 12, 16 and 20 a fifth goes to the test split, a tenth to validation, and three to the server.
    assert per_class(source.train) == [12 - 2 - 1 - 3, 16 - 3 - 2 - 3, 20 - 4 - 2 - 3]
    splits = [set(files_of(split)) for split in (images, *source[:3])]
    assert sum(map(len, splits)) == len(set().union(*splits)) == sum(COUNTS.values())
    assert len({split.fingerprint for split in (images, *source[:3])}) == 4
    assert manifest["source"] == "held_out"
    assert source.notes[-1].startswith("The server's images are not generated: 3 real training images of every class")


def test_few_shots_are_the_clients_own(pictures, config_for_images):
    source, images, _ = load_all(config_for_images(pictures, **{"data.shots": 4}))
    assert (per_class(source.train), per_class(images)) == ([4, 4, 4], [3, 3, 3])
    assert not set(files_of(source.train)) & set(files_of(images))


def test_the_seed_chooses_the_servers_images(pictures, config_for_images):
    first, again, other = (files_of(load_all(config_for_images(pictures, seed=seed))[1]) for seed in (0, 0, 1))
    assert first == again != other


def test_every_class_keeps_an_image_to_train_on(pictures, config_for_images):
    source, images, _ = load_all(config_for_images(pictures, **{"synthesis.images_per_class": 8}))
    assert (per_class(source.train)[0], per_class(images)) == (1, [8, 8, 8])
    with pytest.raises(UsageError, match=r"synthesis.images_per_class: got 9; allowed: fewer than 9, what blue bar"):
        load_all(config_for_images(pictures, **{"synthesis.images_per_class": 9}))


@pytest.fixture
def bring(make_pictures, tmp_path, pictures, config_for_images):
    """(counts, **changes) -> what `load_all` gives for a folder of these images, in tmp_path."""

    def load(counts: dict[str, int], **changes):
        make_pictures(tmp_path, counts, seed=1)
        fields = {"synthesis.source": "image_folder", "synthesis.path": str(tmp_path)}
        return load_all(config_for_images(pictures, **(fields | changes)))

    return load


def test_brought_images_go_to_the_classes_of_their_names_whatever_the_spelling(bring):
    source, images, manifest = bring({"Red_Square": 5, "GREEN_disc": 4, "Blue bar": 3})
    assert per_class(images) == [3, 3, 3]
    assert len(source.train.labels) == 12 + 16 + 20 - 9 - 5  # as many as if nothing had been brought
    for row, file in enumerate(files_of(images)):
        assert NAMES[images.labels[row]].replace(" ", "_") in file.lower().replace(" ", "_")
        # Its own colour is the strongest: the picture is the one that the label says.
        middle = np.asarray(images.images[row])[10:14, 11:13].mean(axis=(0, 1))
        assert ("blue", "green", "red")[images.labels[row]] == ("red", "green", "blue")[int(middle.argmax())]
    assert manifest == {"source": "image_folder", "path": manifest["path"], "fingerprint": images.fingerprint}
    told = "synthesis.path: 9 of 12 images are used, at most 3 of each class (synthesis.images_per_class)."
    assert told in source.notes


def test_classes_are_matched_by_name_where_the_source_has_another_order(bring):
    order = ("red square", "blue bar", "green disc")
    source, images, _ = bring(dict.fromkeys(NAMES, 3), **{"data.class_names": order})
    assert source.class_names == order
    for row, file in enumerate(files_of(images)):
        assert order[images.labels[row]] in file


def test_brought_folders_may_be_called_as_the_data_sets_own(bring, tmp_path):
    """Its JSON says what folders are called beside the classes' names."""
    said = {"class_names": ["bar", "disc", "square"], "folder_names": list(NAMES), "templates": ["a {}."]}
    (tmp_path.parent / "shapes.json").write_text(json.dumps(said))
    counts = {"blue bar": 3, "green disc": 4, "red square": 5}
    source, images, _ = bring(counts, **{"data.name": str(tmp_path.parent / "shapes.json")})
    assert source.class_names == ("bar", "disc", "square")
    for row, file in enumerate(files_of(images)):
        assert NAMES[images.labels[row]] in file
    assert per_class(images) == [3, 3, 3]


def test_classes_called_by_numbers_keep_their_names_whatever_their_order(make_pictures, tmp_path, config_for_images):
    for place in ("data", "brought"):
        make_pictures(tmp_path / place, {"red square": 10, "blue bar": 10})
        for number, name in enumerate(("red square", "blue bar")):
            (tmp_path / place / name).rename(tmp_path / place / str(number))
    fields = {"synthesis.source": "image_folder", "synthesis.path": str(tmp_path / "brought")}
    source, images, _ = load_all(config_for_images(tmp_path / "data", **fields, **{"data.class_names": ("1", "0")}))
    assert source.class_names == ("1", "0")
    for split in (images, source.train):
        for row, file in enumerate(files_of(split)):
            assert f"/{source.class_names[split.labels[row]]}/" in file


def test_classes_that_the_task_has_not_are_passed_over_and_told(bring):
    source, images, _ = bring({"red square": 3, "green disc": 4, "blue bar": 3, "more/red square": 5})
    assert source.class_names == NAMES
    assert per_class(images) == [3, 3, 3]
    assert "synthesis.path: Folders of none of the classes were passed over (5 images): more." in source.notes


def test_test_images_that_are_keys_are_counted(make_pictures, tmp_path, config_for_images):
    """In a folder of one's own, in synthesis.path, as copies under other names; keys are the first two of a class."""
    root = make_pictures(tmp_path / "pictures", dict.fromkeys(COUNTS, 20))
    fields = {"synthesis.source": "image_folder", "synthesis.path": str(root), "synthesis.images_per_class": 20}
    inputs = prepare(config_for_images(root, **fields, **{"cache.keys_per_class": 20}))
    source, told = inputs.source, [note for note in inputs.told if "are keys of the cache too" in note]
    assert told[0].startswith("6 of 6 validation images are keys of the cache too (synthesis.path)")
    assert told[1].startswith("12 of 12 test images are keys of the cache too (synthesis.path)")
    for row, file in enumerate(files_of(source.test)):
        place = tmp_path / "copies" / NAMES[source.test.labels[row]]
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place / f"copy {row}.png")
    make_pictures(tmp_path / "copies", COUNTS, seed=7)
    copies = {"synthesis.source": "image_folder", "synthesis.path": str(tmp_path / "copies")}
    fields = copies | {"synthesis.images_per_class": 30, "cache.keys_per_class": 30}
    with pytest.raises(UsageError, match="16 images of blue bar"):
        load_all(config_for_images(root, **fields))
    for keys, expected in ((16, 4), (2, 0)):  # of blue bars alone no other 16 are there
        changes = copies | {"synthesis.images_per_class": 30, "cache.keys_per_class": keys}
        inputs = prepare(config_for_images(root, **changes))
        told = [note for note in inputs.told if "are keys of the cache too" in note]
        keys = select(inputs.synthetic, member_rows(inputs.members))
        among = sum(file.name.startswith("copy") for file in map(pathlib.Path, files_of(keys)))
        assert sum(file.name.startswith("copy") for file in map(pathlib.Path, files_of(inputs.synthetic))) == 12
        assert among == expected
        assert [note.split(" images")[0] for note in told] == ([f"{among} of 12 test"] if among else [])


def test_pixels_tell_keys_where_the_images_are_no_files():
    pixels = np.random.default_rng(0).integers(0, 255, (6, 4, 4), dtype=np.uint8)
    split = LabelledImages(pixels, np.zeros(6, np.int32), "")
    colour = np.repeat(pixels[[4, 1]][..., None], 3, axis=-1)
    others = LabelledImages([Image.fromarray(each) for each in colour], np.zeros(2, np.int32), "")
    assert shared_rows(split, others).tolist() == [1, 4]


def test_broken_images_among_those_brought_stop_or_are_left_out_and_told(bring, tmp_path):
    (tmp_path / "blue bar").mkdir()
    (tmp_path / "blue bar" / "broken.png").write_bytes(b"no image")
    counts = {"red square": 3, "green disc": 3, "blue bar": 2}
    with pytest.raises(UsageError, match=r"synthetic images: got 1 of 9 that cannot be decoded: .*broken.png"):
        bring(counts)
    source, images, _ = bring(counts, **{"data.broken": "skip"})
    assert per_class(images) == [2, 3, 3]
    assert not any("images are used" in note for note in source.notes)
    assert [note for note in source.notes if "synthetic" in note and "broken.png" in note]


def test_what_is_wrong_with_the_brought_folder_is_told_of_synthesis_path(bring, tmp_path):
    with pytest.raises(UsageError, match=r"synthesis.path: got classes missing \(1\): red square"):
        bring({"green disc": 1, "blue bar": 1})
    with pytest.raises(UsageError, match=r"synthesis.path: got .*nowhere \(not there\)"):
        bring({"red square": 1}, **{"synthesis.path": str(tmp_path / "nowhere")})


def test_a_generator_is_asked_for_the_sources_classes_and_its_images_come_with_their_digest(monkeypatch):
    config, asked = default(), []
    config.synthesis.images_per_class = 4
    made = SyntheticSet(np.zeros((10, 8, 8, 3), np.uint8), np.arange(10), {"images_sha256": "of the pixels"})
    monkeypatch.setattr(server_set, "obtain", lambda request: asked.append(request) or made)
    source, images, manifest = load_all(config)
    assert (asked[0].pipeline, asked[0].class_names) == ("pocket", source.class_names)
    assert asked[0].prompts[3] == tuple(template.format("three") for template in source.templates)
    assert images.images is made.images
    assert (images.fingerprint, manifest) == ("of the pixels", made.manifest)


@pytest.fixture
def no_images(monkeypatch):
    """Whoever asks for a source's images fails."""

    def refuse(*_, **__):
        raise AssertionError("images were looked for")

    for module in (suite, folder):
        monkeypatch.setattr(module, "load", refuse)
    monkeypatch.setattr(server_set, "read_source", refuse)


@pytest.mark.parametrize("name", SUITE)
def test_the_texts_of_a_named_data_set_need_no_image(name, no_images):
    data = default().data
    data.name = name
    known = suite.named(name)
    assert texts_of(data) == (known.class_names, known.templates)
    data.class_names = ("mine", "yours")
    assert texts_of(data) == (("mine", "yours"), known.templates)


def test_the_texts_of_other_sources_are_what_a_run_gets(pictures, config_for_images):
    config = config_for_images(pictures)
    source, _, _ = load_all(config)
    assert texts_of(config.data) == (source.class_names, source.templates)


def test_real_images_set_apart_are_keys_before_those_brought(bring, tmp_path):
    changes = {"synthesis.real_images": 2, "synthesis.images_per_class": 4, "cache.keys_per_class": 5}
    source, images, manifest = bring(dict.fromkeys(COUNTS, 4), **changes)
    assert per_class(images) == [6, 6, 6]
    assert manifest["real_per_class"] == 2
    assert manifest["source"] == "image_folder"
    for label, class_name in enumerate(NAMES):
        names = [images.images.name(row) for row in np.flatnonzero(images.labels == label)]
        assert [str(tmp_path) in name for name in names] == [False] * 2 + [True] * 4
        assert all(pathlib.Path(name).parent.name == class_name for name in names)
        pictured = [np.asarray(images.images[row]) for row in np.flatnonzero(images.labels == label)]
        assert all(np.array_equal(one, Image.open(name)) for one, name in zip(pictured, names, strict=True))
    assert per_class(source.train) == [12 - 2 - 1 - 2, 16 - 3 - 2 - 2, 20 - 4 - 2 - 2]
    others = {file for split in source[:3] for file in files_of(split)}
    assert not others & set(files_of(images))
    assert any("The server's set holds 2 real training images of every class" in note for note in source.notes)


def test_real_images_beside_leave_the_clients_their_shots(bring):
    changes = {"synthesis.real_images": 2, "cache.keys_per_class": 3, "data.shots": 3}
    source, images, _ = bring(dict.fromkeys(COUNTS, 4), **changes)
    assert (per_class(source.train), per_class(images)) == ([3, 3, 3], [5, 5, 5])


def test_no_more_real_images_than_keys_nor_than_a_class_has(bring, pictures, config_for_images):
    changes = {"synthesis.source": "image_folder", "synthesis.path": str(pictures), "cache.keys_per_class": 2}
    with pytest.raises(UsageError, match=r"synthesis\.real_images: got 3; allowed: 0 to cache\.keys_per_class, 2"):
        validate(config_for_images(pictures, **(changes | {"synthesis.real_images": 3})))
    with pytest.raises(UsageError, match=r"synthesis\.real_images: got 9; allowed: fewer than 9, what blue bar has"):
        bring(dict.fromkeys(COUNTS, 4), **{"synthesis.real_images": 9, "cache.keys_per_class": 9})


def test_real_images_stand_before_drawn_ones(monkeypatch):
    made = SyntheticSet(np.full((20, 8, 8, 3), 7, np.uint8), np.repeat(np.arange(10), 2), {"images_sha256": "pixels"})
    monkeypatch.setattr(server_set, "obtain", lambda request: made)
    config = default()
    whole = load_all(config)[0].train
    config.synthesis.update({"real_images": 1, "images_per_class": 2})
    config.cache.keys_per_class = 3
    validate(config)
    source, images, manifest = load_all(config)
    assert np.bincount(images.labels).tolist() == [3] * 10
    assert manifest == {"images_sha256": "pixels", "real_per_class": 1}
    for label in range(10):
        first, *others = [images.images[row] for row in np.flatnonzero(images.labels == label)]
        assert any(np.array_equal(first, image) for image in whole.images)
        assert all((image == 7).all() for image in others)
    assert len(whole.labels) - len(source.train.labels) == 10


def test_blurred_images_and_duplicates_are_left_out_and_told(bring, tmp_path):
    counts = {"red square": 4, "green disc": 3, "blue bar": 4}
    fields = {"synthesis.images_per_class": 9, "cache.keys_per_class": 3}
    bring(counts, **fields)
    for name, copies in (("green disc", 2), ("blue bar", 1)):
        for copy in range(copies):
            shutil.copy(next((tmp_path / name).glob("*.png")), tmp_path / name / f"copy {copy}.png")
    Image.new("RGB", (24, 24), (9, 9, 90)).save(tmp_path / "blue bar" / "plain.png")
    _, images, _ = bring({}, **fields)
    assert per_class(images) == [6, 5, 4]
    source, images, _ = bring({}, **fields, **{"synthesis.least_sharpness": 1.0, "synthesis.duplicates": "drop"})
    assert per_class(images) == [4, 3, 4]
    assert not any(pathlib.Path(file).name == "plain.png" for file in files_of(images))
    assert source.notes[-1] == (
        "Left out of the server's images: 1 blurred (blue bar 1); 3 near-duplicates of others of their class (blue bar "
        "1, green disc 2)."
    )
    with pytest.raises(UsageError, match=r"synthesis\.duplicates: got drop \(which leaves 3 images of green disc\)"):
        bring({}, **(fields | {"cache.keys_per_class": 4, "synthesis.duplicates": "drop"}))
    with pytest.raises(UsageError, match=r"synthesis\.least_sharpness: got 1000000\.0 \(which leaves 0 images of blue"):
        bring({}, **fields, **{"synthesis.least_sharpness": 1e6})
