"""Which files of a folder are images, and what is told of the others."""

import itertools

import numpy as np
import pytest
from PIL import Image, features

from cachefl_jax.data import folder, tree
from cachefl_jax.data.formats import is_image, suffixes
from cachefl_jax.data.sources import load_images
from cachefl_jax.data.tree import kinds_of
from cachefl_jax.errors import UsageError


@pytest.fixture
def pets(make_images):
    return make_images({"cat": 9, "dog": 9})


def test_what_pillow_decodes_is_an_image(pets, config_of):
    picture, kinds = Image.new("RGB", (6, 5)), ["tga", "jp2", "jfif", "qoi", "gif", "ppm"]
    kinds += ["avif"] if features.check("avif") else []
    for kind in kinds:
        picture.save(pets / f"cat/x.{kind}")
    picture.save(pets / "cat/LOUD.JP2")
    picture.save(pets / "cat/no_suffix", "JPEG")
    (pets / "cat/LICENSE").write_text("no image")
    source = load_images(config_of("image_folder", path=pets, validation_share=0.0, test_share=0.1))
    assert len(source.train.labels) + len(source.test.labels) == 18 + len(kinds) + 2
    assert "Files passed over, being no images (1): cat/LICENSE." in source.notes
    assert {".heic", ".eps", ".h5", ".pdf", ".mpg", ".txt"}.isdisjoint(suffixes())


def test_a_picture_too_large_is_an_image_still(tmp_path, monkeypatch):
    Image.new("L", (40, 40)).save(tmp_path / "large", "PNG")
    (tmp_path / "text").write_text("large")
    for limit in (100, 1000, 10_000):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        assert is_image(str(tmp_path / "large"))
        assert not is_image(str(tmp_path / "text"))


def test_no_images_says_what_was_there_instead(make_images, config_of):
    root = make_images({"cat": 0, "dog": 0})
    for number in range(4):
        for name in (f"cat/{number}.HEIC", f"dog/{number}.heic", f"dog/{number}.txt", f"dog/{number}"):
            (root / name).write_text("x")
    with pytest.raises(
        UsageError, match=r"no images in the train split \(.* holds 8 .heic, 4 .txt, 4 without suffix\)"
    ):
        folder.load(config_of("image_folder", path=root).data)
    Image.fromarray(np.zeros((5, 6), np.uint8)).save(root / "cat/x.png")
    with pytest.raises(UsageError, match=r"classes without training images \(1\): dog \(4 .heic, 4 .txt, 4 without"):
        folder.load(config_of("image_folder", path=root).data)


def test_everything_that_is_passed_over_is_counted(make_images, config_of):
    root = make_images({"train": 2, "train/cat": 2, "train/dog": 2, "test/cat": 1, "test/dog": 1, "": 1, "extra/a": 3})
    (root / "README.md").write_text("x")
    assert folder.load(config_of("image_folder", path=root).data).notes == (
        "Folders beside the splits were passed over: extra (3 images).",
        "Images outside the folders of classes were passed over (3): 0.png, train/0.png, train/1.png.",
        "Files passed over, being no images (1): README.md.",
    )


def test_class_folders_that_differ_only_in_unicode_form_or_case_are_told(make_images, config_of):
    for other, why in (("Cafe\u0301", "Unicode form"), ("CAF\u00c9", "letter case")):
        root = make_images({f"{why}/{name}": 2 for name in ("Caf\u00e9", other)}) / why
        with pytest.raises(
            UsageError, match=rf"data.class_names: got Caf., .* alike but for .*{why}|alike but for .*{why}"
        ):
            folder.load(config_of("image_folder", path=root).data)
        splits = {f"{why}2/train/Caf\u00e9": 2, f"{why}2/train/dog": 2, f"{why}2/test/{other}": 2}
        root = make_images(splits) / f"{why}2"
        with pytest.raises(UsageError, match=rf"test \(classes that training lacks: .*: .* is .* but for .*{why}"):
            folder.load(config_of("image_folder", path=root).data)


def test_folders_in_one_another_without_end_are_told(tmp_path, monkeypatch):
    """As many as Python follows; on disk their remains would break whatever clears them away."""
    identities = itertools.count()
    monkeypatch.setattr(tree, "entries", lambda place: [Endless()])
    monkeypatch.setattr(tree, "identity", lambda place: next(identities))
    with pytest.raises(UsageError, match="hundreds of folders in one another"):
        tree.read_tree(tmp_path)


class Endless:
    """A folder that holds itself under ever another identity."""

    name, path = "a", "a"

    def is_dir(self) -> bool:
        return True


def test_kinds_are_counted_the_most_frequent_first():
    assert kinds_of(["a.txt", "b.TXT", "c", "d.csv", "e.doc"]) == "2 .txt, 1 .csv, 1 .doc and 1 more kinds"
