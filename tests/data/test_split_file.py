"""Files that list images: how they are written, and that they stay below data.path."""

import json
import os
import pathlib

import pytest

from cachefl_jax.data import folder
from cachefl_jax.errors import UsageError


@pytest.fixture
def pets(make_images) -> pathlib.Path:
    """The images' folder, beside one that is nobody's business."""
    return make_images({"pets/cat": 4, "pets/dog": 4, "outside": 1}) / "pets"


@pytest.fixture
def load(config_of, pets):
    """The images that a split file of this content lists."""

    def read(content: dict | bytes, **fields):
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        (pets / "split.json").write_bytes(content)
        return folder.load(config_of("image_folder", path=pets, split_file="split.json", **fields).data)

    return read


def rows_of(*numbers: int, form: str = "{}/{}.png") -> list[list[str]]:
    return [[form.format(kind, number), kind] for kind in ("cat", "dog") for number in numbers]


def test_a_mark_at_the_beginning_and_backslashes_are_what_windows_writes(load):
    content = {"train": rows_of(0, 1), "test": rows_of(2, form="{}\\{}.png") + rows_of(3, form="./{}//{}.png")}
    source = load(b"\xef\xbb\xbf" + json.dumps(content).encode())
    assert source.train.labels.tolist() == [0, 0, 1, 1]
    assert [os.path.basename(source.test.images.name(row)) for row in range(4)] == ["2.png", "2.png", "3.png", "3.png"]
    assert source.test.images[0].size == (5, 6)


def test_a_leak_is_found_whatever_the_separators(load):
    notes = load({"train": rows_of(0, 1), "test": rows_of(1, form="{}\\{}.png")}).notes
    assert notes == ("Files both in training and in the test split (2): cat/1.png, dog/1.png.",)


def test_a_file_may_be_called_with_a_backslash(load, pets):
    (pets / "cat/0.png").rename(pets / "a\\b.png")
    source = load({"train": [["a\\b.png", "cat"], ["dog/0.png", "dog"]]})
    assert source.train.images[0].size == (5, 6)


@pytest.mark.parametrize(
    "path",
    [
        "../outside/0.png", "cat/../../outside/0.png", "..\\outside\\0.png", "..", "/etc/hostname", "//etc/hostname",
        "C:\\images\\0.png", "\\\\server\\share\\0.png", "{root}/cat/0.png", "{root}/../outside/0.png",
    ],
)  # fmt: skip
@pytest.mark.parametrize("role", ["train", "test"])
def test_a_path_that_leaves_the_folder_is_refused(load, pets, path, role):
    content = {"train": rows_of(0, 1), "test": rows_of(2)}
    content[role] = [*content[role], [path.format(root=pets), "cat"]]
    with pytest.raises(UsageError, match=r"data.split_file: got .* \(1 paths that are absolute or leave data.path: "):
        load(content)


def test_a_path_that_comes_back_and_a_link_are_followed(load, pets):
    (pets / "linked").symlink_to(pets.parent / "outside")
    assert len(load({"train": [["cat/../dog/0.png", "dog"], ["linked/0.png", "cat"]]}).train.labels) == 2
    # A link's own .. leads elsewhere for the system: the path is taken as it is written.
    with pytest.raises(UsageError, match=r"1 of 2 listed files are not in .*: outside/0.png"):
        load({"train": [["linked/../outside/0.png", "dog"], ["cat/0.png", "cat"]]})


def test_class_names_that_differ_only_in_unicode_form_or_case_are_told(load):
    names = ("Caf\u00e9", "Cafe\u0301", "CAF\u00c9")
    for one, other, why in ((names[0], names[1], "Unicode form"), (names[0], names[2], "letter case")):
        with pytest.raises(UsageError, match=rf"data.class_names: got .* alike but for .*{why}"):
            load({"train": [["cat/0.png", one], ["dog/0.png", other]]})
        content = {"train": [["cat/0.png", one], ["dog/0.png", "dog"]], "test": [["cat/1.png", other]]}
        with pytest.raises(UsageError, match=rf"classes that training lacks: .*: .* is .* but for .*{why}"):
            load(content)


def test_sites_of_listed_images_are_not_their_classes(load, pets):
    content = {"train": rows_of(0, 1)}
    with pytest.raises(UsageError, match=r"data.group_column: got folder, but .* of their classes \(cat, dog\)"):
        load(content, group_column="folder")
    (pets / "cat").rename(pets / "north")
    (pets / "dog").rename(pets / "south")
    content = {"train": [["north/0.png", "cat"], ["south/0.png", "dog"], ["south/1.png", "cat"]]}
    assert load(content, group_column="folder").train.groups.tolist() == [0, 1, 1]


def test_a_listed_pipe_or_folder_is_refused_unread(load, pets):
    os.mkfifo(pets / "cat" / "pipe.png")
    for name in ("cat/pipe.png", "cat"):
        with pytest.raises(UsageError, match=rf"1 of 3 listed files are not in .*: {name} \(no regular file\)"):
            load({"train": [*rows_of(0), [name, "cat"]]})


def test_a_listed_name_that_no_file_can_have_is_not_there(load):
    for name in ("cat/\ud800.png", "cat/\0.png"):
        with pytest.raises(UsageError, match="1 of 3 listed files are not in"):
            load({"train": [*rows_of(0), [name, "cat"]]})


def test_a_file_that_a_split_has_twice_is_told_whatever_its_class(load):
    source = load({"train": [*rows_of(0, 1), ["./cat/0.png", "dog"], ["dog/1.png", "dog"]], "test": rows_of(2)})
    assert source.notes == ("Files listed more than once in the train split (2): cat/0.png, dog/1.png.",)
    assert len(source.train.labels) == 6
