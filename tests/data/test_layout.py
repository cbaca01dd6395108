"""The table of folder layouts: what each is read as, and which are refused with all their readings."""

import collections
import pathlib
import re

import numpy as np
import pytest

from cachefl_jax.config import default
from cachefl_jax.config.data import LAYOUTS
from cachefl_jax.data import folder, suite
from cachefl_jax.data.layout import Question, read_layout
from cachefl_jax.data.split_folders import find_splits
from cachefl_jax.data.splits import called_as_sites, read_split_name
from cachefl_jax.data.tree import File, Folder, read_tree
from cachefl_jax.errors import UsageError

PETS, ROOT = ("cat", "dog"), pathlib.Path("root")


def grow(counts: dict[str, int], path: str = "") -> Folder:
    """The tree of folders with so many images each, as `read_tree` gives it."""
    inside = collections.defaultdict(dict)
    for name, count in counts.items():
        top, _, rest = name.partition("/")
        inside[top][rest] = count
    files = [File(f"{path}/{row}.png", 1, 1) for row in range(inside.pop("", {}).get("", 0))]
    folders = {name: grow(inside[name], f"{path}/{name}".lstrip("/")) for name in sorted(inside)}
    return Folder(path, files, [], folders, len(files) + sum(each.images for each in folders.values()))


def test_the_trees_of_this_table_are_those_of_the_disk(make_images):
    counts = {"train/cat": 2, "train": 1, "train/dog": 0, "test/cat/young": 3}
    root, tree = make_images(counts), grow(counts)
    found = read_tree(root)
    pairs = zip(found.below(), tree.below(), strict=True)
    assert all((one.path, len(one.files), one.images) == (two.path, len(two.files), two.images) for one, two in pairs)


def read(counts: dict[str, int], layout: str = "auto", sites: bool = False, known=(), splits=None):
    """(levels, classes and sites of training, classes of test) of a tree."""
    wanted = splits or default().data.splits
    reading = read_layout(grow(counts), Question(ROOT, layout, wanted, sites, frozenset(known)))
    train = reading.parts["train"]
    classes = sorted({part.class_name for part in train})
    sites = sorted({part.site for part in train} - {None})
    test = reading.parts["test"]
    return "/".join(reading.levels), classes, sites, test and sorted({part.class_name for part in test})


def of(*tops: str, inside: tuple[str, ...] = PETS) -> dict[str, int]:
    return {f"{top}/{name}": 2 for top in tops for name in inside}


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "test"), ("Training", "Testing"), ("TRAIN", "TEST"), ("seg_train", "seg_test"),
        ("training_set", "test_set"), ("train_images", "test_images"), ("images_train", "images_test"),
        ("trainset", "testset"), ("TrainSet", "TestSet"), ("train2017", "test2017"), ("Training Data", "Test Data"),
        ("asl_alphabet_train", "asl_alphabet_test"), ("train-images", "test-images"), ("trainval", "test"),
        ("train_val", "test"), ("my.train", "my.test"),
    ],
)  # fmt: skip
def test_the_usual_words_for_splits_are_understood_in_any_dress(train, test):
    for wrapper in ("", "data/", "archive/images/"):
        plainly = {f"{wrapper}{name}": count for name, count in of(train, test).items()}
        assert read(plainly) == ("split/class", [*PETS], [], [*PETS])
        twice = {f"{wrapper}{name}": count for name, count in of(f"{train}/{train}", f"{test}/{test}").items()}
        assert read(twice) == ("split/class", [*PETS], [], [*PETS])


def test_folders_beside_splits_are_named_and_not_learnt():
    tree = grow(of("seg_train", "seg_test") | {"seg_pred": 5, "extra": 2})
    reading = read_layout(tree, Question(ROOT, "auto", default().data.splits))
    assert [each.path for each in reading.beside] == ["extra", "seg_pred"]


@pytest.mark.parametrize("wrapper", ["images", "2750", "101_ObjectCategories", "data/images", "archive/archive"])
def test_a_single_folder_that_wraps_the_classes_is_none(wrapper):
    assert read(of(wrapper)) == ("class", [*PETS], [], None)
    assert read({f"{wrapper}/cat/young": 2, f"{wrapper}/cat/old": 2, f"{wrapper}/dog": 2})[1] == [*PETS]


@pytest.mark.parametrize(
    "counts",
    [
        {"bullet train": 2, "steam train": 2, "test tube": 2},  # classes that hold the words
        {"training": 2, "resting": 2, "walking": 2},
        {"train": 2, "car": 2, "plane": 2},
        {"valley": 2, "teston": 2},
        {"dev": 2, "ops": 2},
    ],
)
def test_classes_may_be_called_as_splits_are(counts):
    assert read(counts) == ("class", sorted(counts), [], None)


@pytest.mark.parametrize(
    ("counts", "sites", "expected"),
    [
        (of("site1", "site2", "site3"), True, ("site/class", [*PETS], ["site1", "site2", "site3"], None)),
        (of("site1", "site2", "site3"), False, ("site/class", [*PETS], ["site1", "site2", "site3"], None)),
        (of("hospital_a", "hospital_b"), True, ("site/class", [*PETS], ["hospital_a", "hospital_b"], None)),
        (of("site1", "site2") | {"site3/cat": 9}, True, ("site/class", [*PETS], ["site1", "site2", "site3"], None)),
        (of("data/plant-1", "data/plant-2"), True, ("site/class", [*PETS], ["plant-1", "plant-2"], None)),
        ({f"site{site}/{name}": 20 for site in (1, 2) for name in PETS} | {"site1": 1, "": 1}, False,
         ("site/class", [*PETS], ["site1", "site2"], None)),
        (of(*PETS, inside=("site1", "site2")), True, ("class/site", [*PETS], ["site1", "site2"], None)),
        (of(*PETS, inside=("site1", "site2")), False, ("class", [*PETS], [], None)),
        (of(*PETS, inside=("north", "south")), True, ("class/site", [*PETS], ["north", "south"], None)),
        (of("train/site1", "train/site2", "test"), True, ("split/site/class", [*PETS], ["site1", "site2"], [*PETS])),
        (of("train/site1", "train/site2", "test/site1"), False,
         ("split/site/class", [*PETS], ["site1", "site2"], [*PETS])),
        (of("train/cat", "train/dog", inside=("site1", "site2")) | {"test/cat": 1}, True,
         ("split/class/site", [*PETS], ["site1", "site2"], ["cat"])),
        (of("site1/train", "site2/train", "site1/test"), True,
         ("site/split/class", [*PETS], ["site1", "site2"], [*PETS])),
        (of("cat", "dog", inside=("train", "test")), False, ("class/split", [*PETS], [], [*PETS])),
        (of("cat", "dog", inside=("images",)), False, ("class", [*PETS], [], None)),  # as Tiny ImageNet has it
        ({"cat/young": 2, "cat/old": 2, "dog/puppy": 2}, False, ("class", [*PETS], [], None)),
    ],
)  # fmt: skip
def test_sites_around_classes_and_inside_them_are_told_apart_by_their_names(counts, sites, expected):
    assert read(counts, sites=sites) == expected


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        (of("berlin", "paris"),
         ("class or class/site (classes berlin, paris of cat, dog)", "class/site (", "site/class (sites berlin")),
        (of("site1", "site2", inside=("site3", "site4")),
         ("class or class/site (classes site1", "class/site (", "site/class (sites site1")),
        ({"site1/cat": 2, "site2/dog": 2},
         ("class or class/site (classes site1", "class/site (", "site/class (sites site1")),
        ({"site1": 2, "site2": 2}, ("site1, site2 are called as sites are, with images directly in them",)),
        ({"site1/cat": 2, "site1": 1, "site2/cat": 2}, ("class (classes site1", "site/class (sites site1")),
        (of("train/berlin", "train/paris", "test"),
         ("split/class or split/class/site (classes berlin", "split/class/site (", "split/site/class (sites berlin")),
        (of("berlin/train", "paris/train"), ("class/split (classes berlin", "site/split/class (sites berlin")),
        (of("train", "car", inside=("1", "2")), ("class (classes train, car)", "split/class (train a split, car")),
        (of("site1/2019", "site1/2020", "site2/2019", "site2/2020"),
         ("class or class/site (classes", "class/site (", "site/class (sites site1")),
        (of("berlin", "paris") | {"notes": 0},
         ("class or class/site (", "class/site (", "site/class (sites berlin, paris")),
    ],
)  # fmt: skip
def test_what_is_not_plain_is_refused_with_all_readings_and_a_flag_that_decides(counts, told):
    with pytest.raises(UsageError, match="data.layout: got auto, but root") as caught:
        read(counts)
    assert all(part in caught.value.value for part in told), caught.value.value
    layouts = re.findall(r"--config.data.layout=(\S+)", caught.value.mend)
    assert len(layouts) == len(told)
    assert set(layouts) <= set(LAYOUTS)
    assert all(read(counts, layout)[0] == layout for layout in layouts)


def test_folders_of_images_and_of_their_labels_are_no_classes():
    for counts in (
        {"images": 5, "annotations/trimaps": 5},
        of("images", "masks"),
        of("JPEGImages", "data") | {"data": 3},
    ):
        with pytest.raises(UsageError, match="data.path: got root .*, not called as classes are") as caught:
            read(counts)
        assert "--config.data.layout=class" in caught.value.mend
        assert read(counts, "class")[1] == sorted({name.split("/")[0] for name in counts})
    assert read(of("images") | {"annotations": 0})[1] == [*PETS]
    assert read({"label_0": 2, "label_1": 2})[1] == ["label_0", "label_1"]


def test_a_test_split_without_class_folders_is_left_out_by_the_advice():
    counts = of("Train") | {"Test": 5, "Meta": 2}
    with pytest.raises(UsageError, match=r"Test \(no folders in it\)") as caught:
        read(counts)
    assert caught.value.mend.endswith("leave it out: data.splits=('train','validation','')")
    assert read(counts, splits=("train", "validation", ""))[3] is None


def test_a_word_for_a_split_among_other_folders_is_none_without_training():
    with pytest.raises(UsageError, match=r"may be class or class/site \(classes dev, prod of cat, dog\) or site/class"):
        read(of("dev", "prod"))
    with pytest.raises(UsageError, match=r"data.splits: got train; allowed: the splits of root: rest, test, val"):
        read(of("rest", "val", "test"))


def test_known_class_names_decide():
    assert read(of("berlin", "paris"), known=("cat", "dog", "cow"))[:3] == ("site/class", [*PETS], ["berlin", "paris"])
    assert read(of("berlin", "paris"), known=("berlin", "paris"))[:2] == ("class", ["berlin", "paris"])
    train = of("train/site1", "train/site2") | of("test/berlin", "test/paris")
    assert read(train)[3] == [*PETS]  # training says what the classes are


def test_of_sites_that_have_all_classes_names_of_public_data_sets_tell_which_are_which():
    towns = ("aachen", "bonn", "celle")
    assert read(of(*towns), sites=True)[:3] == ("site/class", [*PETS], [*towns])
    assert read(of(*PETS, inside=towns), sites=True)[:3] == ("class/site", [*PETS], [*towns])
    for counts in (of(*towns, inside=("ok", "scratch")), of("cat", "dog", inside=("frog", "bird"))):
        with pytest.raises(UsageError, match="data.layout: got auto") as caught:
            read(counts, sites=True)
        assert "--config.data.layout=site/class" in caught.value.mend


@pytest.mark.parametrize("layout", ["class", "split/class", "site/class"])
def test_a_layout_that_the_user_names_holds(layout):
    counts = of("train", "test")
    expected = {"class": ["test", "train"], "split/class": [*PETS], "site/class": [*PETS]}
    assert read(counts, layout)[:2] == (layout, expected[layout])


def test_a_layout_that_is_not_there_is_refused():
    with pytest.raises(UsageError, match=r"data.splits: got train; allowed: the splits of root: cat, dog"):
        read({"cat": 1, "dog": 1}, "split/class")
    with pytest.raises(UsageError, match=r"data.path: got root \(not site/class\)"):
        read({"cat": 1, "dog": 1}, "site/class")


def test_divisions_that_cannot_be_told_apart_are_refused():
    counts = of("trainA", "testA", "trainB", "testB")
    with pytest.raises(UsageError, match=r"data.splits: got train; allowed: one of trainA, trainB; .*all three"):
        read(counts)
    assert read(counts, splits=("trainA", "", "testA"))[0] == "split/class"
    labels = of("images_train", "images_test") | {"labels_train": 0, "labels_test": 0}
    assert find_splits(grow(labels), default().data.splits, ROOT, False)[1]["train"] == "images_train"


def test_names_of_splits_and_of_sites():
    assert read_split_name("seg_train") == ("train", "seg")
    assert read_split_name("Validation Set 2") == ("validation", "")
    assert read_split_name("train_test") is None
    assert read_split_name("strain") is None
    assert called_as_sites(["site1", "Site 2"])
    assert called_as_sites(["station_a", "station_b"])
    for classes in (["gas station", "bus station"], ["s1", "s2"], ["0", "1"], ["n01440764", "n01443537"], []):
        assert not called_as_sites(classes)


@pytest.mark.parametrize("clutter", [{}, {"BACKGROUND_Google": 3}])
def test_the_caltech_download_is_read_with_its_wrapper_and_without_its_clutter(make_images, clutter):
    known = suite.named("caltech101")
    counts = dict.fromkeys((*known.folder_names, *clutter), 1)
    root = make_images({f"101_ObjectCategories/{name}": count for name, count in counts.items()})
    data = default().data
    data.name, data.path = "caltech101", str(root)
    found = suite.load("caltech101", data)
    assert found.train.labels.tolist() == list(range(100))
    notes = "\n".join(found.notes)
    assert "The folders were read from 101_ObjectCategories on." in notes
    assert ("BACKGROUND_Google" in notes) == bool(clutter)


def test_sites_become_groups_and_rows_stay_class_by_class(make_images):
    root = make_images(of("site1", "site2") | {"site2/cat": 1})
    data = default().data
    data.path, data.group_column = str(root), "folder"
    found = folder.load(data)
    assert found.class_names == PETS
    assert found.train.labels.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert found.train.groups.tolist() == [0, 0, 1, 0, 0, 1, 1]
    assert found.site_names == ("site1", "site2")
    assert found.notes == ("Folders taken for sites, and those inside for classes (2 sites): site1, site2.",)
    data.group_column = ""
    found = folder.load(data)
    assert found.train.groups is None
    assert "Folders taken for sites, and those inside for classes (2 sites): site1, site2." in found.notes[0]
    assert np.bincount(found.train.labels).tolist() == [3, 4]
