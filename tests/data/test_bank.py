"""Feature banks: what is read, and every fault named."""

import json

import numpy as np
import pytest

from cachefl_jax import machine
from cachefl_jax.data import bank as banks
from cachefl_jax.data import load_bank, take_shots
from cachefl_jax.errors import UsageError
from cachefl_jax.storage import archive


def test_a_bank_is_read_normalised_and_typed(make_bank):
    bank = load_bank(make_bank())
    for split in (bank.train, bank.validation, bank.test, bank.synthetic):
        assert split.features.dtype == np.float32
        assert split.labels.dtype == np.int32
        np.testing.assert_allclose(np.linalg.norm(split.features, axis=1), 1, atol=1e-6)
    assert bank.class_names == ("class 0", "class 1", "class 2", "class 3")
    assert bank.logit_scale == 100
    assert (bank.classes, bank.width) == (4, 8)


def test_names_and_scale_come_from_the_bank(make_bank):
    names = np.array(["ant", "bee", "cat", "dog"])
    bank = load_bank(make_bank(class_names=names, metadata=json.dumps({"logit_scale": 20})))
    assert bank.class_names == tuple(names)
    assert bank.logit_scale == 20


def test_text_and_validation_are_optional(make_bank):
    bank = load_bank(make_bank(text_features=None, val_features=None, val_labels=None))
    assert bank.text_features is None
    assert bank.validation is None
    assert bank.classes == 4


LABELS = np.repeat(np.arange(4), 15)
FEATURES = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)


def with_value(value: float) -> np.ndarray:
    changed = FEATURES.copy()
    changed[7] = value
    return changed


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"train_features": None}, "train_features: got no such array"),
        ({"test_labels": None}, "test_labels: got no such array"),
        ({"synthetic_features": None}, "synthetic_features: got no such array"),
        ({"val_features": None}, "val_features: got no such array"),
        ({"train_labels": LABELS + 1}, "train_labels: got labels from 1 to 4; allowed: 0 to 3"),
        ({"train_labels": LABELS - 1}, "train_labels: got labels from -1 to 2"),
        (
            {"train_labels": LABELS[:-1]},
            "train_labels: got 59 labels; allowed: as many labels as train_features has rows, 60",
        ),
        ({"train_labels": LABELS.astype(float)}, "train_labels: got .* whole numbers"),
        ({"train_labels": LABELS[:, None]}, "train_labels: got shape"),
        ({"train_features": with_value(np.nan)}, "train_features: got NaN or infinity in row 7"),
        ({"train_features": with_value(np.inf)}, "train_features: got NaN or infinity in row 7"),
        ({"train_features": with_value(0)}, "train_features: got zeros only in row 7"),
        ({"train_features": FEATURES[:, :5]}, "width 8; allowed: as wide as train_features, 5"),
        ({"train_features": FEATURES.astype(int)}, "train_features: got .*floats"),
        ({"train_features": FEATURES[:0], "train_labels": LABELS[:0]}, "train_features: got shape"),
        ({"text_features": np.ones((3, 8))}, "train_labels: got labels from 0 to 3; allowed: 0 to 2"),
        ({"text_features": np.ones((4, 9))}, "text_features: got shape"),
        ({"class_names": np.array(["a", "b"])}, "labels from 0 to 3; allowed: 0 to 1"),
        ({"metadata": "no json"}, "metadata: got unreadable"),
        ({"metadata": '{"logit_scale": -1}'}, "logit_scale: got -1"),
        ({"train_labels": LABELS + 2**32}, "train_labels: got labels from 4294967296 to 4294967299; allowed: 0 to 3"),
        ({"train_labels": LABELS.astype(np.uint64) + 2**63}, "train_labels: got labels from 9223372036854775808 to"),
        ({"train_labels": -LABELS}, "train_labels: got labels from -3 to 0"),
        ({"train_labels": LABELS > 1}, "train_labels: got .*bool; allowed: .n. whole numbers"),
        ({"train_features": FEATURES.astype(np.longdouble)}, "train_features: got .*float128; .* 16, 32 or 64 bits"),
        ({"text_features": None, "train_labels": LABELS + 2**31}, "labels: got 2147483651 as the highest"),
        (
            {"synthetic_labels": np.array([0, 1, 3] * 4)},
            r"synthetic_labels: got no rows of 2 \(class 2\); allowed",
        ),
        ({"class_names": np.array(["a", "b", "c", "b"])}, "class_names: got b twice"),
        ({"class_names": np.array(["a", "b", " ", "d"])}, "class_names: got ' '; allowed: names that"),
        ({"class_names": np.array(["a", "b\ud800", "c", "d"])}, "class_names: got b\ufffd, not in UTF-8"),
        ({"class_names": np.array([b"a", b"b", b"\xff", b"d"])}, "class_names: got what is no text"),
        ({"class_names": np.array([["a", "b"], ["c", "d"]])}, r"class_names: got shape \(2, 2\); allowed: .N. texts"),
        ({"class_names": np.arange(4.0)}, "class_names: got float64; allowed: .N. texts"),
        ({"class_names": np.array(["a", "b", "c", "d" * 1001])}, "class_names: got names of up to 4,004 bytes"),
        ({"metadata": "[" * 100_000}, "metadata: got too many lists within lists; allowed: at most 50"),
        ({"metadata": json.dumps({"a": json.loads("[" * 50 + "]" * 50)})}, "metadata: got too many lists within"),
        ({"metadata": "[]"}, "metadata: got unreadable"),
        ({"metadata": np.arange(3)}, r"metadata: got shape \(3,\) of int64; allowed: one text"),
        ({"metadata": " " * 2**22 + "{}"}, "metadata: got .*; allowed: one text of at most 16,777,216 bytes"),
        ({"metadata": '{"logit_scale": [1]}'}, "metadata: got unreadable"),
        ({"metadata": f'{{"logit_scale": 1{"0" * 400}}}'}, "metadata: got unreadable"),
        ({"metadata": '{"logit_scale": NaN}'}, "logit_scale: got nan; allowed: 10 to 1000"),
        (
            {"metadata": '{"logit_scale": 4.6052}'},
            r"logit_scale: got 4.6052; .*exp\(model.logit_scale\), 100: 4.6052",
        ),
        ({"metadata": '{"logit_scale": 2.6592}'}, r"logit_scale: got 2.6592; .*, 14.28: 2.6592 is the logarithm"),
        ({"metadata": '{"logit_scale": 0.01}'}, r"logit_scale: got 0.01; .*its inverse, 100: 0.01 is a temperature"),
        ({"metadata": '{"logit_scale": 2.7e43}'}, r"logit_scale: got 2.7e\+43; allowed: 10 to 1000"),
    ],
)
def test_every_fault_of_a_bank_is_named(make_bank, changes, match):
    with pytest.raises(UsageError, match=match) as caught:
        load_bank(make_bank(**changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("train", "match"),
    [
        (LABELS, "labels: got 1 as the lowest of all splits.*mend: subtract 1 from the labels of all splits"),
        (LABELS - 1, "labels: got 4 as the lowest"),
    ],
)
def test_labels_that_start_above_0_are_told_as_what_they_are(make_bank, train, match):
    """Without names, the largest label tells how many classes there are; of class 0 there were no rows for keys."""
    first = 1 if train is LABELS else 4
    labels = {f"{name}_labels": np.repeat(np.arange(4), 15 if name == "train" else rows) + first
              for name, rows in (("train", 15), ("val", 5), ("test", 10), ("synthetic", 3))}  # fmt: skip
    with pytest.raises(UsageError, match=match):
        load_bank(make_bank(text_features=None, **labels))
    names = np.array(["a", "b", "c", "d"])
    named = "subtract 1 from the labels of all splits: they start at 1" if first == 1 else "renumber the classes from 0"
    with pytest.raises(UsageError, match=rf"train_labels: got labels from {first} to {first + 3}.*mend: {named}"):
        load_bank(make_bank(class_names=names, **labels))


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.uint64, ">i4"])
def test_labels_of_any_whole_type_are_taken(make_bank, kind):
    assert np.array_equal(load_bank(make_bank(train_labels=LABELS.astype(kind))).train.labels, LABELS)


@pytest.mark.parametrize("scale", [1e200, 1e-200, 1e306, 5e-324, 1e-310])
def test_rows_of_any_length_are_normalised(make_bank, scale):
    """Squares of float64 leave its range: 1e200 gave zeros, and 1e-200 not a number."""
    rows = np.round(FEATURES.astype(np.float64) * 8)  # whole numbers, which the smallest scale can hold
    rows[:, 0] = 1
    plain = load_bank(make_bank(train_features=rows)).train.features
    scaled = load_bank(make_bank(train_features=rows * scale, text_features=np.full((4, 8), scale)))
    np.testing.assert_allclose(scaled.train.features, plain, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(scaled.text_features, axis=1), 1, atol=1e-6)


def test_lengths_change_no_bit():
    rows = np.random.default_rng(0).normal(size=(50, 8))
    assert np.array_equal(banks.normalise(rows), banks.normalise(rows * 2.0**900))
    assert np.array_equal(
        banks.normalise(rows), (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    )


def test_names_and_metadata_of_bytes_are_texts(make_bank):
    names = np.array(["cat", "größe", "ant", "dog"])
    encoded = np.char.encode(names, "utf-8")
    bank = load_bank(make_bank(class_names=encoded, metadata=np.array([b'{"logit_scale": 50}'])))
    assert bank.class_names == tuple(names)
    assert bank.logit_scale == 50


def test_names_may_differ_in_case_alone_and_be_numbers(make_bank):
    """A bank needs no prompts: EMNIST has both a and A."""
    assert load_bank(make_bank(class_names=np.array(["a", "A", "b", "B"]))).class_names == ("a", "A", "b", "B")
    assert load_bank(make_bank(class_names=np.arange(4))).class_names == ("0", "1", "2", "3")


def test_a_bank_in_any_layout_is_the_same_bank(make_bank, monkeypatch):
    plain = load_bank(make_bank(train_features=FEATURES)).train.features
    monkeypatch.setattr(archive, "BLOCK_BYTES", 7 * FEATURES[0].nbytes)  # some rows a block
    for features in (FEATURES, np.asfortranarray(FEATURES), FEATURES.astype(">f8")):
        assert np.array_equal(load_bank(make_bank(train_features=features)).train.features, plain)
    with pytest.raises(UsageError, match="NaN or infinity in row 47"):
        load_bank(make_bank(train_features=np.where(np.arange(60)[:, None] == 47, np.nan, FEATURES)))


def test_what_has_no_room_or_is_not_wanted_is_not_read(make_bank, monkeypatch):
    bank = load_bank(make_bank(notes=np.array([{}], object)))
    assert bank.classes == 4
    monkeypatch.setattr(machine, "free_memory", lambda: 1000)
    with pytest.raises(UsageError, match=r"data.path: got .*\(takes 4,352 bytes\); allowed: what fits into the 1,000"):
        load_bank(make_bank())


def test_a_missing_file_a_cut_off_one_and_a_pickled_array_are_told_apart(make_bank, tmp_path):
    with pytest.raises(UsageError, match="an existing .npz"):
        load_bank(tmp_path / "none.npz")
    path = make_bank()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UsageError, match="cannot be read as .npz"):
        load_bank(path)
    with pytest.raises(UsageError, match="holds pickled objects"):
        load_bank(make_bank(class_names=np.array(["a", {}], dtype=object)))
    np.save(tmp_path / "single.npy", FEATURES)
    with pytest.raises(UsageError, match="a single array"):
        load_bank(tmp_path / "single.npy")


def test_shots_bound_the_rows_of_every_class(make_bank):
    train = load_bank(make_bank()).train
    few = take_shots(train, 3, seed=0)
    assert np.array_equal(np.bincount(few.labels), [3, 3, 3, 3])
    assert take_shots(train, 0, seed=0) is train
    assert np.array_equal(np.bincount(take_shots(train, 99, seed=0).labels), [15] * 4)


def test_features_of_half_precision_are_normalised_in_double():
    rows = np.random.default_rng(0).normal(size=(5, 512)).astype(np.float16)
    exact = rows.astype(np.float64) / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    assert np.abs(banks.normalise(rows) - exact).max() < 1e-7
