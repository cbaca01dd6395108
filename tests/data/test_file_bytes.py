"""Other bytes are other images, whatever names, sizes and times they have; what has not changed is read once."""

import os
import pathlib
import shutil

import numpy as np
import pytest

from cachefl_jax.data import file_bytes
from cachefl_jax.data.folder import SAMPLED
from cachefl_jax.data.images import LabelledImages
from cachefl_jax.data.sources import load_for_evaluation, load_images
from cachefl_jax.errors import UsageError
from cachefl_jax.storage import home


@pytest.fixture
def pets(make_images, config_of, monkeypatch, tmp_path):
    """A config of more bitmaps than a folder's own fingerprint reads, of one size and time, and a store of its own."""
    root = make_images({"pets/cat": SAMPLED, "pets/dog": SAMPLED}, suffix=".bmp") / "pets"
    for path in root.rglob("*.bmp"):
        os.utime(path, ns=(0, 0))
    monkeypatch.setenv("CACHEFL_HOME", str(tmp_path / "store"))
    return config_of("image_folder", path=root)


@pytest.fixture
def reads(monkeypatch):
    """The files that were read for their bytes."""
    seen, whole = [], file_bytes.file_digest
    monkeypatch.setattr(file_bytes, "file_digest", lambda path: seen.append(path) or whole(path))
    return seen


def other_bytes(path: str) -> None:
    """Another last pixel under the same name, size and time."""
    content = pathlib.Path(path).read_bytes()
    pathlib.Path(path).write_bytes(content[:-3] + bytes([content[-3] ^ 255]) + content[-2:])
    os.utime(path, ns=(0, 0))


def prints(source) -> list[str]:
    return [split.fingerprint for split in (source.train, source.validation, source.test)]


def test_one_file_of_many_with_other_bytes_changes_its_splits_fingerprint(pets):
    source = load_images(pets)
    found = [source.test.fingerprint]
    for row in range(len(source.test.labels)):
        other_bytes(source.test.images.name(row))
        found.append(load_images(pets).test.fingerprint)
    assert len(set(found)) == len(found)


def test_evaluation_finds_the_features_of_the_run(pets):
    source = load_images(pets)
    assert prints(load_for_evaluation(pets, source.class_names))[1:] == prints(source)[1:]


def test_what_has_settled_is_read_once_and_what_changes_again(pets, reads, monkeypatch):
    load_images(pets)
    assert len(reads) == 2 * SAMPLED
    load_images(pets)
    assert len(reads) == 4 * SAMPLED  # times may not tell what happened within a clock's tick
    monkeypatch.setattr(home, "SETTLED", 0)
    source = load_images(pets)
    reads.clear()
    assert prints(load_images(pets)) == prints(source)
    assert reads == []
    other_bytes(source.train.images.name(5))
    assert prints(load_images(pets))[0] != prints(source)[0]
    assert len(reads) == len(source.train.labels)


@pytest.mark.parametrize("content", ["{", "[]", '{"facts": 1}', "[" * 10**5])
def test_a_damaged_memory_is_made_again(pets, monkeypatch, content):
    monkeypatch.setattr(home, "SETTLED", 0)
    before = prints(load_images(pets))
    files = list((home.memory_of("any").parent).iterdir())
    assert len(files) == 5  # of every split, and of what two have in common
    for path in files:
        path.write_text(content)
    assert prints(load_images(pets)) == before


def test_few_shots_read_few_files(pets, reads):
    pets.data.shots = 2
    source = load_images(pets)
    assert len(reads) == sum(map(len, (source.train.labels, source.validation.labels, source.test.labels)))
    assert len(source.train.labels) == 4


def test_images_that_are_no_files_are_as_they_were():
    split = LabelledImages(np.zeros((2, 3, 3), np.uint8), np.zeros(2, np.int32), "f" * 64)
    assert file_bytes.heed_bytes(split, "train") is split


def test_names_that_are_not_in_utf_8_are_read_and_told(pets):
    name = os.fsencode(pathlib.Path(pets.data.path) / "cat") + b"/\xff"
    os.rename(pathlib.Path(pets.data.path) / "cat" / "0.bmp", name + b".bmp")
    sound = load_images(pets)
    pathlib.Path(os.fsdecode(name + b"2.bmp")).write_bytes(b"broken")
    pets.data.broken = "skip"
    told = load_images(pets)
    assert len(told.train.images) + len(told.test.images) + len(told.validation.images) == 2 * SAMPLED
    assert sound.class_names == told.class_names
    notes = "".join(told.notes)
    assert "\ufffd2.bmp (no image)" in notes
    notes.encode()  # they are written into reports
    pets.data.broken = "stop"
    with pytest.raises(UsageError, match=r"1 of \d+ that cannot be decoded"):
        load_images(pets)


def test_copies_across_splits_are_told(make_images, config_of):
    """Test and validation images that are training images too, by their bytes; not where near-duplicates are held out
    together, which tells of them itself."""
    root = make_images({"pets/train/cat": 6, "pets/train/dog": 6, "pets/test/cat": 4, "pets/test/dog": 4}) / "pets"
    for number in range(3):
        shutil.copy(root / "train" / "cat" / f"{number}.png", root / "test" / "cat" / f"again {number}.png")
    config = config_of("image_folder", path=root, validation_share=0.0)
    found = [note for note in load_images(config).notes if "training images too" in note]
    assert len(found) == 1
    assert found[0].startswith("3 of 11 test images are training images too, byte for byte")
    assert load_images(config).notes == load_images(config).notes  # as remembered
    config.data.duplicates = "together"
    assert not [note for note in load_images(config).notes if "training images too" in note]
