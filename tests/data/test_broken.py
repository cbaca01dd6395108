"""Images that cannot be decoded: found before anything is encoded, once, and named."""

import pathlib

import numpy as np
import pytest
from PIL import Image

from cachefl_jax.data import broken as broken_images
from cachefl_jax.data.broken import check_images
from cachefl_jax.data.images import LabelledImages
from cachefl_jax.data.sources import load_images
from cachefl_jax.errors import UsageError
from cachefl_jax.files import home


@pytest.fixture
def pets(make_images, config_of, monkeypatch):
    """A config of a folder of twenty JPEGs, and a store of its own."""
    root = make_images({"pets/cat": 10, "pets/dog": 10}, suffix=".jpg") / "pets"
    monkeypatch.setenv("CACHEFL_HOME", str(root.parent / "store"))
    return config_of("image_folder", path=root, validation_share=0.0)


@pytest.fixture
def decodings(monkeypatch):
    """The rows that were decoded to be checked."""
    seen = []
    whole = broken_images.fault
    monkeypatch.setattr(broken_images, "fault", lambda split, row: seen.append(row) or whole(split, row))
    return seen


def cut(path: pathlib.Path) -> None:
    """A file whose last bytes were lost: its header is sound."""
    path.write_bytes(path.read_bytes()[:-20])


def test_a_sound_set_is_given_back_as_it_is_and_decoded_once(pets, decodings):
    source = load_images(pets)
    assert len(source.train.labels) == 16
    assert sorted(decodings) == sorted([*range(16), *range(4)])
    assert load_images(pets).train.fingerprint == source.train.fingerprint
    assert len(decodings) == 20
    assert len(list((home() / "checked").glob("*.json"))) == 2


def test_a_file_cut_short_is_found_though_its_header_is_sound(pets):
    path = pathlib.Path(pets.data.path) / "cat/3.jpg"
    cut(path)
    with Image.open(path) as image:
        image.verify()
    with pytest.raises(UsageError, match=r"images: got 1 of .* cannot be decoded: .*cat/3.jpg \(OSError: .*truncated"):
        load_images(pets)


def test_stop_counts_all_and_names_the_first_few_in_one_line(pets):
    root = pathlib.Path(pets.data.path)
    whole = load_images(pets)
    for row in (0, 1, 4, 5, 15):
        pathlib.Path(whole.train.images.name(row)).write_text("no image")
    with pytest.raises(UsageError, match=r"train images: got 5 of 16") as caught:
        load_images(pets)
    line = str(caught.value)
    assert "\n" not in line
    assert line.count(str(root)) == 3
    assert "(no image) and 2 more; allowed: images that can be decoded" in line
    assert "data.broken=skip" in line


def test_skip_drops_images_and_labels_and_says_so(pets):
    whole = load_images(pets)
    names = [whole.train.images.name(row) for row in range(16)]
    cut(pathlib.Path(names[2]))
    pets.data.broken = "skip"
    rest = load_images(pets)
    assert [rest.train.images.name(row) for row in range(15)] == names[:2] + names[3:]
    assert np.bincount(rest.train.labels).tolist() == [7, 8]
    assert rest.train.fingerprint != whole.train.fingerprint
    (note,) = [note for note in rest.notes if note.startswith("Left out of the train images: 1 of 16")]
    assert names[2] in note
    assert load_images(pets).notes == rest.notes


def test_a_verdict_is_kept_but_broken_images_are_tried_again(pets, decodings, monkeypatch):
    split = load_images(pets).train
    failing = {4}
    decode = split.images.decode

    def flaky(row: int):
        if row in failing:
            raise PermissionError("may not be read")
        return decode(row)

    monkeypatch.setattr(split.images, "decode", flaky)
    split = split._replace(fingerprint="f" * 64)
    assert len(check_images(split, "train", "skip").labels) == 15
    decodings.clear()
    assert len(check_images(split, "train", "skip").labels) == 15
    assert decodings == [4]
    failing.clear()
    assert check_images(split, "train", "stop") is split
    decodings.clear()
    check_images(split, "train", "stop")
    assert decodings == []


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"images": 16, "broken": {"99": "x"}}', '{"images": 3, "broken": {}}']
)
def test_a_damaged_verdict_is_made_again(pets, decodings, content):
    split = load_images(pets).train
    decodings.clear()
    path = home() / "checked" / f"{split.fingerprint}.json"
    path.write_text(content)
    assert check_images(split, "train", "stop") is split
    assert len(decodings) == 16
    assert '"broken": {}' in path.read_text()


def test_a_class_that_loses_all_its_images_is_refused(pets):
    for path in pathlib.Path(pets.data.path).glob("dog/*"):
        path.write_text("no image")
    pets.data.broken = "skip"
    with pytest.raises(UsageError, match=r"data.path: got classes without training images \(1\): dog"):
        load_images(pets)
    for path in pathlib.Path(pets.data.path).glob("cat/*"):
        path.write_text("no image")
    with pytest.raises(UsageError, match=r"train images: got 16 of 16 .*bring these images again"):
        load_images(pets)


def test_a_store_that_cannot_be_written_is_named(pets, monkeypatch):
    monkeypatch.setenv("CACHEFL_HOME", str(pathlib.Path(pets.data.path) / "cat/0.jpg"))
    with pytest.raises(UsageError, match=r"CACHEFL_HOME: got .*allowed: a folder that can be written"):
        load_images(pets)


def test_arrays_are_not_checked(decodings):
    split = LabelledImages(np.zeros((3, 2, 2), np.uint8), np.zeros(3, np.int32), "f")
    assert check_images(split, "train", "stop") is split
    assert decodings == []
