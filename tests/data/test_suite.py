"""Named data sets: what is known fills in the config, and local copies are matched to the known classes."""

import json

import numpy as np
import pytest

from cachefl_jax.config import default, validate
from cachefl_jax.config.data import SUITE
from cachefl_jax.data import hub, suite
from cachefl_jax.data.classes import match_classes
from cachefl_jax.data.images import ImageSet, LabelledImages
from cachefl_jax.data.sources import load_images
from cachefl_jax.errors import UsageError

PETS = {
    "title": "Three pets",
    "hub": "someone/pets",
    "hub_config": "plain",
    "splits": {"train": "train", "validation": None, "test": "validation"},
    "image_column": "img",
    "label_column": "kind",
    "class_names": ["tabby cat", "Old-English sheepdog", "crane bird"],
    "folder_names": ["n3", "n1", "n2"],
    "templates": ["a photo of a {}, a type of pet."],
    "notes": "",
}


@pytest.fixture
def directory(tmp_path_factory):
    """A suite of two data sets; the second's folders are called as its classes are."""
    folder = tmp_path_factory.mktemp("suite")
    (folder / "pets.json").write_text(json.dumps(PETS))
    own = PETS | {"folder_names": None, "splits": {"train": "train", "validation": "val", "test": "test"}, "hub": ""}
    (folder / "own.json").write_text(json.dumps(own))
    return folder


@pytest.fixture
def load(config_of, directory):
    return lambda name="pets", **fields: suite.load(name, config_of(name, **fields).data, directory)


def test_what_counts_as_unset_is_the_configs_default():
    assert {field: default().data[field] for field in suite.UNSET} == suite.UNSET


def test_what_is_known_comes_from_the_files(directory):
    known = suite.named("pets", directory)
    assert known.splits == ("train", "", "validation")
    assert known.class_names == tuple(PETS["class_names"])
    assert suite.named("own", directory).folder_names == known.class_names


def test_every_data_set_of_the_suite_can_be_read_and_its_folders_are_told_apart():
    assert {"imagenet", "cifar10", "mnist"} <= set(SUITE)
    for name in SUITE:
        known = suite.named(name)
        assert len(known.folder_names) == len(known.class_names) > 1
        assert known.splits[0]
        assert known.splits[2]
        for spelled in (known.folder_names, known.class_names):
            classes = match_classes(spelled, known.class_names, known.folder_names, "data.path")
            assert [classes.numbers[folder] for folder in spelled] == list(range(len(spelled))), name


@pytest.mark.parametrize(
    "folders",
    [
        ["n3", "n1", "n2"],
        ["Tabby_Cat", "old english sheepdog", "craneBird"],
        ["tabby-cat", "n1", "crane_bird"],
        ["0", "1", "2"],
        ["1", "2", "3"],
    ],
)
def test_class_folders_are_matched_however_they_are_spelled(make_images, load, folders):
    root = make_images({f"{split}/{name}": rows for split in ("train", "val") for rows, name in enumerate(folders, 1)})
    source = load(path=root)
    assert source.class_names == tuple(PETS["class_names"])
    assert source.templates == tuple(PETS["templates"])
    assert np.bincount(source.train.labels).tolist() == [1, 2, 3]
    assert source.validation is None
    assert np.bincount(source.test.labels).tolist() == [1, 2, 3]


def test_a_download_that_is_divided_otherwise_is_taken_as_it_is(make_images, load):
    root = make_images({f"{split}/{name}": 2 for split in ("train", "test") for name in ("n1", "n2", "n3")})
    source = load(path=root)
    assert source.validation is None
    assert len(source.test.labels) == 6


@pytest.mark.parametrize(
    ("folders", "match"),
    [
        (["n1", "n2"], r"data.path: got classes missing \(1\): tabby cat; allowed: the data set's 3 classes"),
        (["n1", "n2", "n3", "n4"], r"classes unknown \(1\): n4;"),
        (["n1", "n2", "dog"], r"classes missing \(1\): tabby cat; unknown \(1\): dog"),
        (["n1", "n2", "n3", "tabby cat"], r"classes named twice"),
        (["0", "1", "3"], r"missing \(3\): tabby cat, Old-English sheepdog, crane bird; unknown \(3\): 0, 1, 3"),
    ],
)
def test_missing_and_unknown_class_folders_are_named(make_images, load, folders, match):
    root = make_images({name: 2 for name in folders})
    with pytest.raises(UsageError, match=match) as caught:
        load(path=root)
    assert "\n" not in str(caught.value)


def test_a_split_file_brings_its_own_classes(make_images, load):
    root = make_images({"x": 2, "y": 2})
    rows = [["x/0.png", 1, "face"], ["y/0.png", 0, "car"]]
    (root / "split.json").write_text(json.dumps({"train": rows, "val": rows, "test": rows}))
    source = load(path=root, split_file="split.json")
    assert source.class_names == ("car", "face")
    assert source.templates == tuple(PETS["templates"])
    assert len(source.validation.labels) == 2


def test_idx_files_are_recognised(tmp_path, load):
    for split, rows in (("train", 6), ("t10k", 3)):
        head = b"\0\0\x08\x03" + bytes([0, 0, 0, rows, 0, 0, 0, 1, 0, 0, 0, 1])
        (tmp_path / f"{split}-images-idx3-ubyte").write_bytes(head + bytes(rows))
        (tmp_path / f"{split}-labels-idx1-ubyte").write_bytes(
            b"\0\0\x08\x01\0\0\0" + bytes([rows]) + bytes([0, 1, 2] * (rows // 3))
        )
    source = load(path=tmp_path)
    assert source.class_names == tuple(PETS["class_names"])
    assert [len(source.train.labels), len(source.test.labels)] == [6, 3]


@pytest.fixture
def asked(monkeypatch):
    """What the hub is asked for, and the classes that its answer (`found`, `texts`) is given."""
    record = {"found": ["a", "b", "c"], "texts": False}

    def answer(data, name, templates):
        fields = ("hub", "hub_config", "splits", "image_column", "label_column")
        record.update({field: data[field] for field in fields})
        record["classes"] = name(record["found"], record["texts"])
        nothing = LabelledImages([], np.zeros(0, np.int32), "")
        return ImageSet(nothing, None, None, record["classes"].names, templates)

    monkeypatch.setattr(hub, "load", answer)
    return record


def test_without_a_path_the_hub_is_asked_for_what_is_known(load, asked):
    source = load()
    assert asked["hub"] == "someone/pets"
    assert asked["hub_config"] == "plain"
    assert asked["splits"] == ("train", "", "validation")
    assert (asked["image_column"], asked["label_column"]) == ("img", "kind")
    assert asked["classes"].numbers == {"a": 0, "b": 1, "c": 2}
    assert source.templates == tuple(PETS["templates"])


def test_what_the_config_says_goes_before_what_is_known(load, asked):
    load(hub="mirror/pets", label_column="species", class_names=("x", "y", "z"))
    assert asked["hub"] == "mirror/pets"
    # A copy of one's own has its own columns and splits.
    assert (asked["image_column"], asked["label_column"]) == ("image", "species")
    assert asked["splits"] == ("train", "validation", "test")
    assert asked["classes"].names == ("x", "y", "z")
    with pytest.raises(
        UsageError, match=r"data.class_names: got 2 names; allowed: 3, one for each class of Three pets"
    ):
        load(class_names=("x", "y"))


def test_a_mirror_with_labels_in_another_order_is_matched_by_name(load, asked):
    asked["found"] = ["crane_bird", "Tabby Cat", "old english sheepdog"]
    load()
    assert asked["classes"].numbers == {"crane_bird": 2, "Tabby Cat": 0, "old english sheepdog": 1}


def test_a_hub_that_disagrees_is_told_in_one_line(load, asked):
    asked["found"] = ["a", "b"]
    with pytest.raises(UsageError, match=r"data.hub: got someone/pets \(2 classes\); allowed: Three pets's 3"):
        load()
    asked |= {"found": ["a", "n1", "n2"], "texts": True}
    with pytest.raises(UsageError, match=r"data.hub: got classes missing \(1\): tabby cat; unknown \(1\): a"):
        load()


def test_a_data_set_that_no_hub_has_needs_a_path(load, asked):
    with pytest.raises(UsageError, match=r"data.path: got nothing; allowed: the folder that holds Three pets"):
        load("own")


def test_classes_that_the_literature_leaves_out_are_passed_over(load, asked, directory, make_images, config_of):
    (directory / "pets.json").write_text(json.dumps(PETS | {"left_out": ["Background"]}))
    suite.named.cache_clear()
    asked["found"] = ["tabby cat", "background", "old english sheepdog", "crane bird"]
    load()
    numbers = {"tabby cat": 0, "background": -1, "old english sheepdog": 1, "crane bird": 2}
    assert asked["classes"].numbers == numbers
    folders = dict.fromkeys(("tabby cat", "old english sheepdog", "crane bird", "BACKGROUND"), 2)
    found = suite.load("pets", config_of("pets", path=make_images(folders)).data, directory)
    assert found.train.labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_known_names_in_another_order_are_refused_where_they_would_go_in_turn(load, asked):
    with pytest.raises(UsageError, match=r"data.class_names: got crane bird, tabby cat out of place"):
        load(class_names=("crane bird", "old english sheepdog", "tabby cat"))
    asked["found"] = ["crane bird", "tabby", "old english sheepdog"]  # one is unknown: numbers would have to do
    with pytest.raises(UsageError, match=r"data.hub: got crane bird, old english sheepdog out of place"):
        load()


def test_the_real_caltech_download_has_two_classes_too_many(config_of, make_images):
    known = suite.named("caltech101")
    folders = dict.fromkeys((*known.folder_names, "BACKGROUND_Google", "Faces_easy"), 1)
    found = suite.load("caltech101", config_of("caltech101", path=make_images(folders)).data)
    assert found.train.labels.tolist() == list(range(100))


def test_a_test_folder_of_the_download_is_the_test_split(load, make_images):
    names = ("tabby cat", "old english sheepdog", "crane bird")
    root = make_images({f"{split}/{name}": 1 for split in ("train", "validation", "test") for name in names})
    found = load(path=root)
    assert all(found[role] is not None and "/test/" in found.test.images.name(0) for role in range(3))


def test_a_data_set_of_ones_own_is_a_json_file(make_images, config_of, tmp_path):
    path = make_images({"photos/OK": 10, "photos/crack": 10, "photos/other": 1})
    file = tmp_path / "seams.json"
    said = {"class_names": ["sound seam", "cracked seam"], "folder_names": ["OK", "crack"], "left_out": ["other"]}
    file.write_text(json.dumps(said | {"templates": ["an X-ray image of a {}."]}))
    config = config_of(str(file), path=path / "photos")
    config.synthesis.source = "held_out"
    validate(config)
    source = load_images(config)
    assert suite.title_of(config.data) == "seams"
    file.write_text(json.dumps(said | {"title": "Weld seams", "templates": ["an X-ray image of a {}."]}))
    suite.named.cache_clear()
    assert suite.title_of(config.data) == "Weld seams"
    assert suite.title_of(config_of("digits").data) == "digits"
    assert suite.title_of(config_of("gone.json").data) == "gone.json"  # of a report that is written again later
    assert source.class_names == ("sound seam", "cracked seam")
    assert source.templates == ("an X-ray image of a {}.",)
    assert np.bincount(source.test.labels).tolist() == [2, 2]
    names = [source.train.images.name(row) for row in np.flatnonzero(source.train.labels == 0)]
    assert all("/OK/" in name for name in names)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({}, "class_names"),
        ({"class_names": ["a"]}, "class_names"),
        ({"class_names": ["a", "A"]}, "alike"),
        ({"class_names": ["a", "b"], "folder_names": ["x"]}, "folder_names"),
        ({"class_names": ["a", "b"], "templates": ["no place"]}, "templates"),
    ],
)
def test_a_json_that_says_something_impossible_is_refused(said, told, config_of, tmp_path):
    (tmp_path / "bad.json").write_text(json.dumps(said))
    with pytest.raises(UsageError, match=told):
        load_images(config_of(str(tmp_path / "bad.json"), path=tmp_path))
    with pytest.raises(UsageError, match="nowhere.json"):
        load_images(config_of(str(tmp_path / "nowhere.json"), path=tmp_path))
