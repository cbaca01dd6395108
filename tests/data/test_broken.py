"""Images that cannot be decoded: found before anything is encoded, once, and named."""

import pathlib

import numpy as np
import pytest
from PIL import Image

from cachefl_jax.config import default as config_default
from cachefl_jax.data import broken as broken_images
from cachefl_jax.data.broken import check_images
from cachefl_jax.data.images import LabelledImages
from cachefl_jax.data.sources import load_images
from cachefl_jax.errors import UsageError
from cachefl_jax.storage.home import home


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
    assert len(check_images({"train": split}, "skip")["train"].labels) == 15
    decodings.clear()
    assert len(check_images({"train": split}, "skip")["train"].labels) == 15
    assert decodings == [4]
    failing.clear()
    assert check_images({"train": split}, "stop")["train"] is split
    decodings.clear()
    check_images({"train": split}, "stop")
    assert decodings == []


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"images": 16, "broken": {"99": "x"}}', '{"images": 3, "broken": {}}']
)
def test_a_damaged_verdict_is_made_again(pets, decodings, content):
    split = load_images(pets).train
    decodings.clear()
    path = home() / "checked" / f"{split.fingerprint}.json"
    path.write_text(content)
    assert check_images({"train": split}, "stop")["train"] is split
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


def test_a_store_that_others_filled_need_not_be_written_to(pets, monkeypatch):
    load_images(pets)

    def refuse(*_):
        raise AssertionError("a lock is a file, too")

    monkeypatch.setattr(broken_images, "locked", refuse)
    assert len(load_images(pets).train.labels) == 16


def test_arrays_are_not_checked(decodings):
    split = LabelledImages(np.zeros((3, 2, 2), np.uint8), np.zeros(3, np.int32), "f")
    assert check_images({"train": split}, "stop")["train"] is split
    assert decodings == []


def test_broken_images_of_all_splits_are_told_at_once(pets):
    whole = load_images(pets)
    for split, rows in ((whole.train, (0, 1)), (whole.test, (3,))):
        for row in rows:
            pathlib.Path(split.images.name(row)).write_text("no image")
    told = r"train images: got 2 of 16 .*; test images: 1 of 4 that cannot be decoded: .*; mend: .*data.broken=skip"
    with pytest.raises(UsageError, match=told) as caught:
        load_images(pets)
    assert "\n" not in str(caught.value)
    pets.data.broken = "skip"
    rest = load_images(pets)
    assert [len(rest.train.labels), len(rest.test.labels)] == [14, 3]


@pytest.mark.parametrize("kinds", [("cat", "dog"), ("dog",)])
def test_skip_is_no_advice_where_it_would_leave_nothing(pets, kinds):
    for kind in kinds:
        for path in pathlib.Path(pets.data.path).glob(f"{kind}/*"):
            path.write_text("no image")
    with pytest.raises(UsageError, match="that cannot be decoded") as caught:
        load_images(pets)
    assert "skip" not in caught.value.mend
    assert "bring these images again" in caught.value.mend


def test_a_picture_over_the_limit_is_broken_until_the_limit_is_raised(pets, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    Image.new("L", (40, 40)).save(pathlib.Path(pets.data.path) / "cat/large.png")
    pets.data.max_pixels = 1000
    with pytest.raises(UsageError, match=r"cat/large.png \(more pixels than data.max_pixels, 1000\)") as caught:
        load_images(pets)
    assert caught.value.mend.startswith("raise data.max_pixels if you trust")
    pets.data.max_pixels = 4000
    assert len(load_images(pets).train.labels) == 17
    assert config_default().data.max_pixels == 2 * 89_478_485  # Pillow's own


def test_an_image_that_is_another_programs_to_decode_is_none(pets):
    """Pillow would start Ghostscript on it."""
    path = pathlib.Path(pets.data.path) / "cat/3.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n")
    with pytest.raises(UsageError, match=r"cat/3.jpg \(no image\)"):
        load_images(pets)


def test_a_verdict_under_a_higher_limit_of_pixels_is_made_again(pets, monkeypatch):
    """Else a run with a lower limit trains on what is over it, and fails when it is done and shows its images."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    Image.new("L", (40, 40)).save(pathlib.Path(pets.data.path) / "cat/large.png")
    load_images(pets)
    pets.data.max_pixels = 1000
    with pytest.raises(UsageError, match=r"cat/large.png \(more pixels than data.max_pixels, 1000\)"):
        load_images(pets)
