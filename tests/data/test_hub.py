"""The hub's formats, from disk: parquet folders and saved data sets. What needs a network is not tested."""

import concurrent.futures
import io
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from cachefl_jax.data import folder, hub
from cachefl_jax.data.classes import Classes
from cachefl_jax.data.file_bytes import shared_rows
from cachefl_jax.data.images import select
from cachefl_jax.data.sources import load_images
from cachefl_jax.errors import UsageError

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """No test finds what another left, or leaves anything with the user."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


def picture(number: int) -> bytes:
    """A PNG that is `number` wide."""
    file = io.BytesIO()
    Image.fromarray(np.full((2, number + 1), 7, np.uint8)).save(file, "PNG")
    return file.getvalue()


KINDS = datasets.ClassLabel(names=["cat", "dog", "eel"])


def table_of(rows: int, kind=KINDS, **columns) -> "datasets.Dataset":
    """Rows of an image, a label 0, 1, 2, 0, ... and a site."""
    content = {
        "image": [{"bytes": picture(row), "path": None} for row in range(rows)],
        "label": [row % 3 for row in range(rows)],
        "site": [f"hospital {row % 2}" for row in range(rows)],
    } | columns
    features = {"image": datasets.Image(), "label": kind, "site": datasets.Value("string")}
    return datasets.Dataset.from_dict(content, features=datasets.Features(features))


@pytest.fixture
def save(tmp_path):
    """Writes splits as parquet files that the hub would serve; gives the folder."""

    def write(**splits):
        for name, table in splits.items():
            (tmp_path / "hub/data").mkdir(parents=True, exist_ok=True)
            table.to_parquet(tmp_path / f"hub/data/{name}-00000-of-00001.parquet")
        return tmp_path / "hub"

    return write


@pytest.fixture
def load(config_of):
    return lambda root, **fields: hub.load(config_of("hub", hub=root, **fields).data)


def test_a_parquet_folder_gives_splits_names_and_sites(save, load):
    source = load(save(train=table_of(12), test=table_of(6)), group_column="site")
    assert source.class_names == ("cat", "dog", "eel")
    assert source.train.labels.tolist() == [0, 1, 2] * 4
    assert source.train.labels.dtype == np.int32
    assert source.train.groups.tolist() == [0, 1] * 6
    assert source.validation is None
    assert [image.size for image in source.test.images] == [(row + 1, 2) for row in range(6)]


def test_a_saved_data_set_and_a_single_table_are_read_as_well(tmp_path, load, config_of):
    datasets.DatasetDict({"train": table_of(12), "valid": table_of(3)}).save_to_disk(tmp_path / "both")
    source = load(tmp_path / "both")
    assert len(source.validation.labels) == 3
    table_of(30).save_to_disk(tmp_path / "one")
    whole = load_images(config_of("hub", hub=tmp_path / "one"))
    assert [len(split.labels) for split in whole[:3]] == [21, 3, 6]


def test_images_are_decoded_when_asked_for_from_many_threads(save, load):
    images = load(save(train=table_of(200))).train.images
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        widths = list(pool.map(lambda row: images[row].size[0], list(range(200)) * 3))
    assert widths == list(range(1, 201)) * 3


def test_images_stand_upright(save, load):
    tall, file = Image.new("L", (3, 7)), io.BytesIO()
    exif = tall.getexif()
    exif[0x0112] = 6
    tall.save(file, "JPEG", exif=exif)
    table = table_of(3, image=[{"bytes": file.getvalue(), "path": None}] * 3)
    assert load(save(train=table)).train.images[0].size == (7, 3)


def test_bytes_of_image_files_do_as_well(save, load):
    content = {"image": [picture(row) for row in range(6)], "label": [row % 3 for row in range(6)]}
    features = datasets.Features({"image": datasets.Value("binary"), "label": KINDS})
    source = load(save(train=datasets.Dataset.from_dict(content, features=features)))
    assert source.train.images[4].size == (5, 2)


def test_texts_are_sorted_and_numbers_need_names(save, load):
    texts = table_of(6, datasets.Value("string"), label=["dog", "Eel", "cat"] * 2)
    source = load(save(train=texts, test=texts))
    assert source.class_names == ("Eel", "cat", "dog")
    assert source.test.labels.tolist() == [2, 0, 1] * 2
    bare = save(train=table_of(6, datasets.Value("int64")), test=table_of(3, datasets.Value("int64")))
    with pytest.raises(UsageError, match=r"data.label_column: got label \(numbers only\); .*data.class_names"):
        load(bare)
    assert load(bare, class_names=("a", "b", "c")).train.labels.tolist() == [0, 1, 2] * 2


def test_the_configs_names_are_matched_or_go_in_turn(save, load):
    root = save(train=table_of(6))
    assert load(root, class_names=("Dog", "Eel", "Cat")).train.labels.tolist() == [2, 0, 1] * 2
    assert load(root, class_names=("a", "b", "c")).class_names == ("a", "b", "c")
    with pytest.raises(UsageError, match=r"data.class_names: got 2 names; allowed: 3, one for each class"):
        load(root, class_names=("a", "b"))


@pytest.mark.parametrize(
    ("table", "fields", "match"),
    [
        ({}, {"image_column": "img"}, r"data.image_column: got img; allowed: the columns of the split train: image,"),
        ({}, {"label_column": "y"}, r"data.label_column: got y; allowed: the columns of the split train"),
        ({}, {"group_column": "who"}, r"data.group_column: got who; allowed: the columns of the split train"),
        ({}, {"image_column": "site"}, r"data.image_column: got site .*allowed: a column of images"),
        ({}, {"label_column": "image"}, r"data.label_column: got image .*allowed: a column of whole numbers or texts"),
        ({}, {"splits": ("trian", "", "")}, r"data.splits: got trian; allowed: the splits of .*hub: train;"),
        ({}, {"splits": ("train", "", "eval")}, r"data.splits: got eval; allowed: the splits of"),
        ({}, {"hub_config": "large"}, r"data.hub: got .*large"),
        ({"label": [None, 1, 2]}, {}, r"data.label_column: got label \(int64, 1 empty\)"),
        ({"label": [-1, -1, -1]}, {}, r"data.label_column: got labels from -1 to -1 in train; .*keeps its labels"),
    ],
)  # fmt: skip
def test_every_fault_is_told_in_one_line(save, load, table, fields, match):
    with pytest.raises(UsageError, match=match) as caught:
        load(save(train=table_of(3, **table)), **fields)
    assert "\n" not in str(caught.value)


def test_a_split_with_classes_of_its_own_is_refused(save, load):
    texts = [table_of(3, datasets.Value("string"), label=labels) for labels in (["a", "b", "b"], ["a", "b", "c"])]
    with pytest.raises(UsageError, match=r"data.label_column: got classes of test that training lacks: c"):
        load(save(train=texts[0], test=texts[1]))


def test_a_data_set_that_is_not_there_is_named(load, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"data.hub: got .*empty \(.*allowed: OWNER/NAME of a public data set"):
        load(tmp_path / "empty")


def test_a_broken_row_is_named(save, config_of):
    table = table_of(30)
    images = [{"bytes": picture(row)[: 40 if row == 7 else None], "path": None} for row in range(30)]
    root = save(train=table_of(30, image=images), test=table)
    with pytest.raises(UsageError, match=r"train images: got 1 of .*row 7 of the train split of .*hub"):
        load_images(config_of("hub", hub=root, validation_share=0.0))
    rest = load_images(config_of("hub", hub=root, validation_share=0.0, broken="skip", group_column="site"))
    assert len(rest.train.labels) == len(rest.train.groups) == 29


def test_the_fingerprint_is_of_the_content_and_the_same_in_another_process(save, load, tmp_path):
    root = save(train=table_of(6))
    first = load(root).train.fingerprint
    assert load(root).train.fingerprint == first
    assert load(root, class_names=("dog", "cat", "eel")).train.fingerprint != first
    code = (
        f"import datasets; datasets.config.HF_DATASETS_CACHE = {str(tmp_path / 'cache')!r};"
        "from cachefl_jax.config import default; from cachefl_jax.data import hub; config = default();"
        f"config.data.hub = {str(root)!r}; print(hub.load(config.data).train.fingerprint)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == first
    save(train=table_of(6, image=[{"bytes": picture(9), "path": None}] * 6))
    assert load(root).train.fingerprint != first


def test_files_that_rows_name_count_with_their_bytes(make_images, config_of, monkeypatch, tmp_path):
    """As class folders are, read by the package: rows hold paths alone."""
    monkeypatch.setenv("CACHEFL_HOME", str(tmp_path / "store"))
    root = make_images(dict.fromkeys(("hub/train/cat", "hub/train/dog", "hub/test/cat", "hub/test/dog"), 3), ".bmp")
    config = config_of("hub", hub=root / "hub")
    before = load_images(config)
    files = load_images(config_of("image_folder", path=root / "hub", validation_share=0.0)).test
    assert shared_rows(before.test, files).tolist() == [0, 1, 2, 3, 4, 5]
    for path in root.rglob("*.bmp"):
        content, times = path.read_bytes(), path.stat().st_mtime_ns
        path.write_bytes(content[:-3] + bytes([content[-3] ^ 255]) + content[-2:])
        os.utime(path, ns=(times, times))
    now = load_images(config)
    for role in ("train", "validation", "test"):
        assert getattr(now, role).fingerprint != getattr(before, role).fingerprint


def test_rows_of_classes_that_are_left_out_are_dropped(save, config_of):
    root = save(train=table_of(6), test=table_of(3))
    match = lambda found, texts: Classes(("cat", "eel"), {"cat": 0, "dog": -1, "eel": 1})  # noqa: E731
    found = hub.load(config_of("hub", hub=root).data, match)
    assert found.train.labels.tolist() == [0, 1, 0, 1]
    assert [image.width for image in found.train.images] == [1, 3, 4, 6]


def test_sites_are_asked_of_training_rows_alone(save, load):
    root = save(train=table_of(4), test=table_of(3).remove_columns("site"))
    assert load(root, group_column="site").train.groups.tolist() == [0, 1, 0, 1]


def test_labels_from_one_are_told_with_the_way_to_count_them_from_nought(save, load, tmp_path, monkeypatch):
    root = save(train=table_of(6, datasets.Value("int64"), label=[1, 2, 3] * 2))
    with pytest.raises(
        UsageError, match=r"labels from 1 to 3 in train, which are counted from 1; allowed: 0 to 2"
    ) as told:
        load(root, class_names=("a", "b", "c"))
    monkeypatch.chdir(tmp_path)
    shift = told.value.mend.split(", ")[1]  # what the refusal advises works
    eval(shift, {"data": datasets.load_dataset(str(root)), "DIR": "shifted"})
    assert load(tmp_path / "shifted", class_names=("a", "b", "c")).train.labels.tolist() == [0, 1, 2] * 2


def test_a_row_without_an_image_is_a_broken_image(save, config_of):
    table = table_of(30, image=[None if row == 4 else {"bytes": picture(row), "path": None} for row in range(30)])
    root = save(train=table, test=table_of(3))
    with pytest.raises(UsageError, match=r"train images: got 1 of .*row 4 of the train split of .*hub \(no image\);"):
        load_images(config_of("hub", hub=root, validation_share=0.0))
    rest = load_images(config_of("hub", hub=root, validation_share=0.0, broken="skip"))
    assert len(rest.train.labels) == 29


def test_a_row_that_names_a_file_of_the_users_is_a_broken_image(save, load, tmp_path):
    for place in (tmp_path / "private.png", tmp_path / "hub/own.png"):
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(picture(1))
    paths = [str(tmp_path / "private.png"), str(tmp_path / "hub/own.png"), str(tmp_path / "hub/../private.png")]
    source = load(save(train=table_of(3, image=[{"bytes": None, "path": path} for path in paths])))
    assert source.train.images[1].size == (2, 2)
    for row in (0, 2):
        with pytest.raises(
            UsageError, match=r"row . of the train split of .* \(ValueError: the row names .*private.png"
        ):
            source.train.images[row]


def test_rows_that_are_a_folders_files_are_found_by_their_bytes(save, load, tmp_path, config_of):
    for row, kind in ((4, "cat"), (2, "dog"), (50, "dog")):
        (tmp_path / "drawn" / kind).mkdir(parents=True, exist_ok=True)
        (tmp_path / "drawn" / kind / f"{row}.png").write_bytes(picture(row))
    drawn = folder.load(config_of("image_folder", path=tmp_path / "drawn").data).train
    source = load(save(train=table_of(6)))
    assert shared_rows(source.train, drawn).tolist() == [2, 4]
    assert shared_rows(select(source.train, np.array([5, 4])), drawn).tolist() == [1]
