"""Images in folders: every layout, what is passed over, and what the fingerprint depends on."""

import json
import os
import pathlib
import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image

from cachefl_jax.data import folder
from cachefl_jax.data.images import read_image
from cachefl_jax.data.sources import load_images
from cachefl_jax.errors import UsageError

SPLITS = {"train/cat": 3, "train/dog": 4, "val/cat": 1, "val/dog": 2, "test/cat": 2, "test/dog": 1}


@pytest.fixture
def load(config_of):
    """The folder's images as `folder.load` gives them."""
    return lambda root, **fields: folder.load(config_of("image_folder", path=root, **fields).data)


def paths(split, root: pathlib.Path) -> list[str]:
    return [os.path.relpath(split.images.name(row), root) for row in range(len(split.labels))]


def test_split_folders_give_the_splits_and_sorted_folders_the_classes(make_images, load):
    root = make_images(SPLITS)
    source = load(root)
    assert source.class_names == ("cat", "dog")
    assert source.templates == ("a photo of a {}.",)
    assert source.train.labels.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert source.train.labels.dtype == np.int32
    assert source.validation.labels.tolist() == [0, 1, 1]
    assert source.test.labels.tolist() == [0, 0, 1]
    assert paths(source.test, root) == ["test/cat/0.png", "test/cat/1.png", "test/dog/0.png"]
    assert source.notes == ()
    assert len({split.fingerprint for split in source[:3]}) == 3


@pytest.mark.parametrize(
    "names", [("Train", "valid", "testing"), ("training", "validation", "TEST"), ("train", "dev", "test")]
)
def test_usual_names_of_splits_are_understood(make_images, load, names):
    root = make_images({f"{name}/{kind}": 2 for name in names for kind in ("cat", "dog")})
    assert [len(split.labels) for split in load(root)[:3]] == [4, 4, 4]


def test_names_of_ones_own_and_splits_that_are_not_there(make_images, load):
    root = make_images({f"{name}/{kind}": 2 for name in ("seen", "unseen") for kind in ("cat", "dog")})
    source = load(root, splits=("seen", "", "unseen"))
    assert source.validation is None
    assert len(source.test.labels) == 4
    with pytest.raises(UsageError, match=r"data.splits: got other; allowed: the splits of .*: seen, unseen"):
        load(root, splits=("seen", "other", "unseen"))
    with pytest.raises(UsageError, match=r"data.splits: got a; allowed: the splits of .*: seen, unseen"):
        load(root, splits=("a", "", "b"))


def test_split_folders_without_training_are_not_taken_for_classes(make_images, load):
    root = make_images({f"{name}/{kind}": 2 for name in ("val", "test") for kind in ("cat", "dog")})
    with pytest.raises(UsageError, match=r"data.splits: got train; allowed: the splits of .*: test, val"):
        load(root)


def test_two_folders_for_one_split_are_refused_unless_one_is_named(make_images, load):
    root = make_images(SPLITS | {"valid/cat": 1, "valid/dog": 1})
    with pytest.raises(UsageError, match=r"data.splits: got validation; allowed: one of val, valid"):
        load(root)
    assert len(load(root, splits=("train", "valid", "test")).validation.labels) == 2


def test_class_folders_alone_are_all_training_rows_until_shares_are_held_out(make_images, config_of):
    root = make_images({"cat": 20, "dog": 10})
    config = config_of("image_folder", path=root)
    assert len(folder.load(config.data).train.labels) == 30
    source = load_images(config)
    assert [np.bincount(split.labels).tolist() for split in source[:3]] == [[14, 7], [2, 1], [4, 2]]
    held = [set(paths(split, root)) for split in source[:3]]
    assert len(set.union(*held)) == 30
    config.seed = 5
    again = load_images(config)
    assert [set(paths(split, root)) for split in again[:3]] == held, "a run's seed must not move the test set"


def test_a_class_may_be_called_train(make_images, load):
    assert load(make_images({"car": 2, "train": 2, "plane": 2})).class_names == ("car", "plane", "train")


def test_training_images_in_one_folder_with_others_beside_are_split_folders(make_images, load):
    source = load(make_images({"train/cat": 2, "train/dog": 2, "notes": 0}))
    assert source.class_names == ("cat", "dog")
    assert source.notes == ("Folders beside the splits were passed over: notes.",)


def test_what_is_hidden_nested_or_no_image(make_images, load):
    root = make_images({"cat/young/one": 2, "cat": 1, "dog": 2, ".git": 1, "__MACOSX": 1, "cat/.thumbs": 2})
    shutil.copy(root / "dog/0.png", root / "dog/loud.PNG")
    for name in ("cat/readme.txt", "cat/young/b.csv", "dog/c", "dog/Thumbs.db", "dog/.hidden.png"):
        (root / name).write_text("x")
    source = load(root)
    assert source.class_names == ("cat", "dog")
    assert paths(source.train, root) == [
        "cat/0.png", "cat/young/one/0.png", "cat/young/one/1.png", "dog/0.png", "dog/1.png", "dog/loud.PNG",
    ]  # fmt: skip
    (note,) = source.notes
    assert note.startswith("Files passed over, being no images (4): cat/")
    assert note.endswith("and 1 more.")


def test_links_are_followed_but_not_in_circles(make_images, load, tmp_path):
    root = make_images({"pets/cat": 2, "pets/dog": 2, "elsewhere": 3}) / "pets"
    (root / "fox").symlink_to(tmp_path / "elsewhere")
    (root / "cat/again").symlink_to(root / "cat")
    (root / "dog/up").symlink_to(root)
    (root / "dog/gone.png").symlink_to(root / "nowhere.png")
    source = load(root)
    assert np.bincount(source.train.labels).tolist() == [2, 2, 3]
    assert source.notes == ("Files passed over, being no images (1): dog/gone.png.",)


def test_images_are_decoded_when_asked_for_upright_and_whole(make_images, load):
    root = make_images({"cat": 1, "dog": 1})
    tall = Image.new("L", (3, 7))
    exif = tall.getexif()
    exif[0x0112] = 6  # taken with the camera on its side
    tall.save(root / "dog/0.png", exif=exif)
    source = load(root)
    assert source.train.images[1].size == (7, 3)
    (root / "cat/0.png").write_bytes((root / "cat/0.png").read_bytes()[:60])
    with pytest.raises(UsageError, match=r"image: got .*cat/0.png \(.*; allowed: an image that can be decoded"):
        source.train.images[0]
    assert [image.size for image in source.train.images[1:]] == [(7, 3)]
    with pytest.raises(IndexError):
        source.train.images[2]


def test_the_fingerprint_tells_path_size_time_and_label_and_not_the_root(make_images, load, tmp_path):
    root = make_images({"a/cat": 2, "a/dog": 2}) / "a"
    first = load(root).train.fingerprint
    assert load(root).train.fingerprint == first
    shutil.copytree(root, tmp_path / "b")
    assert load(tmp_path / "b").train.fingerprint == first
    assert load(root, class_names=("dog", "cat")).train.fingerprint != first
    os.utime(root / "cat/0.png", ns=(1, 1))
    assert load(root).train.fingerprint != first
    os.rename(tmp_path / "b/cat/0.png", tmp_path / "b/cat/9.png")
    assert load(tmp_path / "b").train.fingerprint != first


@pytest.mark.parametrize(
    ("folders", "fields", "match"),
    [
        ({}, {}, r"data.path: got .* \(no folders in it\)"),
        ({"train": 1, "test": 1}, {}, r"data.path: got .*train \(no folders in it\)"),
        (SPLITS | {"test/cow": 1}, {}, r"test \(classes that training lacks: cow\); allowed: the 2 class folders"),
        (SPLITS | {"train/cow": 0}, {}, r"data.path: got classes without training images \(1\): cow"),
        ({"cat": 2}, {}, r"data.path: got the classes cat; allowed: 2 or more"),
        (SPLITS | {"test/cat": 0, "test/dog": 0}, {}, r"data.path: got no images in the test split"),
        ({"cat": 2, "dog": 2}, {"class_names": ("a", "b", "c")}, r"data.class_names: got 3 names; allowed: 2, one for"),
        ({"cat": 2, "dog": 2}, {"class_names": ("a", "A")}, r"data.class_names: got a, A alike"),
        ({"cat": 2, "Cat": 2}, {}, r"data.class_names: got Cat, cat alike"),
        ({"cat": 2, "dog": 2}, {"class_names": ("dog", "hound")}, r"got 'hound' for the class 'dog'"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused_in_one_line(make_images, config_of, folders, fields, match):
    root = make_images(folders)
    with pytest.raises(UsageError, match=match) as caught:
        load_images(config_of("image_folder", path=root, **fields))
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there_and_a_file_are_told_apart(load, tmp_path):
    (tmp_path / "data.zip").write_text("x")
    with pytest.raises(UsageError, match=r"data.path: got .*none \(not there\)"):
        load(tmp_path / "none")
    with pytest.raises(UsageError, match=r"data.zip \(a file\); .*unpack archives first"):
        load(tmp_path / "data.zip")
    with pytest.raises(UsageError, match=r"data.path: got nothing"):
        load("")


def test_a_class_that_test_lacks_is_noted(make_images, config_of):
    root = make_images(SPLITS | {"train/cow": 2, "val/cow": 1})
    assert load_images(config_of("image_folder", path=root)).notes == (
        "Classes without images in the test split (1): cow.",
    )


@pytest.fixture
def split_file(make_images):
    """Writes a split file beside images in cat/ and dog/; gives the root."""

    def write(content) -> pathlib.Path:
        root = make_images({"cat": 4, "dog": 4})
        (root / "split.json").write_text(content if isinstance(content, str) else json.dumps(content))
        return root

    return write


def rows_of(numbers: range, labels: dict[str, int] | None = None) -> list[list]:
    """A split's rows: [path, class], or [path, label, class] where labels are given."""
    rows = [[f"{kind}/{number}.png", kind] for kind in ("dog", "cat") for number in numbers]
    return [[path, labels[kind], kind] for path, kind in rows] if labels else rows


def test_a_simple_split_file_says_what_lies_where(split_file, load):
    root = split_file({"train": rows_of(range(2)), "val": rows_of(range(2, 3)), "test": rows_of(range(3, 4))})
    source = load(root, split_file="split.json")
    assert source.class_names == ("cat", "dog")
    assert source.train.labels.tolist() == [1, 1, 0, 0]
    assert paths(source.test, root) == ["dog/3.png", "cat/3.png"]
    assert load(root, split_file=root / "split.json").train.fingerprint == source.train.fingerprint


def test_coops_split_file_keeps_its_labels(split_file, load, config_of):
    label = {"dog": 0, "cat": 1}
    root = split_file({"train": rows_of(range(3), label), "test": rows_of(range(3, 4), label)})
    source = load(root, split_file="split.json")
    assert source.class_names == ("dog", "cat")
    assert source.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert source.validation is None
    whole = load_images(config_of("image_folder", path=root, split_file="split.json"))
    assert [len(split.labels) for split in whole[:3]] == [4, 2, 2]


GOOD = {"train": rows_of(range(3)), "test": rows_of(range(3, 4))}


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("{", r"data.split_file: got .*split.json \(JSONDecodeError"),
        ([1], r"split.json \(a list\)"),
        ({"test": []}, r"data.splits: got train; allowed: the splits of .*split.json: test"),
        ({"train": []}, r"\(no training rows\)"),
        ({"train": {"cat": []}}, r"\(a dict for a split\)"),
        (GOOD | {"test": [["cat/3.png"]]}, r'the row \["cat/3.png"\]'),
        (GOOD | {"test": [["cat/3.png", "1", "cat"]]}, r'the row \["cat/3.png", "1", "cat"\]'),
        (GOOD | {"test": [["cat/3.png", 0, "cat"]]}, r"rows of both forms"),
        (GOOD | {"test": [["cat/3.png", "cow"]]}, r"classes that training lacks: cow"),
        ({"train": [["a", 0, "cat"], ["b", 2, "dog"]]}, r"not one a class, from 0: \(0, 'cat'\), \(2, 'dog'\)"),
        ({"train": [["a", 0, "cat"], ["b", 0, "dog"]]}, r"labels that are not one a class"),
        (GOOD | {"test": [["cat/8.png", "cat"], ["b", "cat"]]}, r"2 of 2 listed files are not in .*: cat/8.png, b;"),
    ],
)  # fmt: skip
def test_every_fault_of_a_split_file_is_named(split_file, load, content, match):
    root = split_file(content)
    with pytest.raises(UsageError, match=match) as caught:
        load(root, split_file="split.json")
    assert "\n" not in str(caught.value)


def test_a_missing_split_file_is_named_and_a_leak_is_noted(split_file, load):
    root = split_file({"train": rows_of(range(3)), "test": rows_of(range(2, 4))})
    assert load(root, split_file="split.json").notes == (
        "Files both in training and in the test split (2): cat/2.png, dog/2.png.",
    )
    with pytest.raises(UsageError, match=r"data.split_file: got none.json \(not there\)"):
        load(root, split_file="none.json")


CIFAR = pathlib.Path(__file__).parents[2] / "shared/data/images/cifar10.tar.xz"


@pytest.mark.skipif(not CIFAR.is_file(), reason="the real CIFAR-10 is not part of the product")
def test_real_photographs_are_read(tmp_path, load):
    with tarfile.open(CIFAR) as archive:
        few = [member for member in archive if member.name.endswith(("0.jpg", "1.jpg"))]
        archive.extractall(tmp_path, few, filter="data")
    source = load(tmp_path / "cifar10")
    assert source.class_names == (
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
    )  # fmt: skip
    assert len(source.train.labels) + len(source.test.labels) == len(few) > 1000
    assert source.train.images[0].size == (32, 32)


def test_folders_inside_class_folders_are_sites(make_images, load):
    sites = {"train/cat/north": 2, "train/cat/south": 1, "train/dog/south": 3, "test/cat": 1, "test/dog": 1}
    source = load(make_images(sites), group_column="folder", splits=("train", "", "test"))
    assert source.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert source.train.groups.tolist() == [0, 0, 1, 1, 1, 1]
    assert source.test.groups is None


def test_images_outside_any_site_are_refused_where_sites_are_asked_for(make_images, load):
    root = make_images({"cat/north": 2, "dog": 1})
    with pytest.raises(UsageError, match=r"data.group_column: got folder, but .*dog/0.png lies in none of a site"):
        load(root, group_column="folder")
    with pytest.raises(UsageError, match="data.group_column: got site; allowed: folder"):
        load(root, group_column="site")


def test_the_site_is_the_folder_below_the_class_however_deep_the_image_lies(make_images, load):
    root = make_images({"cat/north/2020": 1, "cat/south/2020": 1, "dog/north": 1, "dog/cat": 1})
    fields = {"group_column": "folder", "layout": "class/site"}  # by its names cat may be a site as well as a class
    assert load(root, **fields).train.groups.tolist() == [1, 2, 0, 1]


def test_other_bytes_of_the_same_names_sizes_and_times_are_other_images(make_images, load, tmp_path):
    root = make_images({"cat": 3, "dog": 3}, suffix=".bmp")
    for path in root.rglob("*.bmp"):
        os.utime(path, ns=(0, 0))
    before = load(root).train.fingerprint
    for path in root.rglob("*.bmp"):
        path.write_bytes(path.read_bytes()[:-1] + b"\x07")
        os.utime(path, ns=(0, 0))
    assert load(root).train.fingerprint != before


def test_sixteen_bits_of_grey_become_eight_and_an_unknown_range_is_broken(tmp_path):
    Image.fromarray(np.array([[0, 257, 65535]], np.uint16)).save(tmp_path / "scan.png")
    assert np.asarray(read_image(tmp_path / "scan.png")).tolist() == [[0, 1, 255]]
    Image.fromarray(np.array([[0.0, 0.5]], np.float32)).save(tmp_path / "scan.tif")
    with pytest.raises(ValueError, match="mode F has no known range"):
        read_image(tmp_path / "scan.tif")
