"""Feature banks: what is read, and every fault named."""

import json

import numpy as np
import pytest

from cachefl_jax.data import bank as banks
from cachefl_jax.data import class_grid, load_bank, take_shots
from cachefl_jax.errors import UsageError


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
    ],
)
def test_every_fault_of_a_bank_is_named(make_bank, changes, match):
    with pytest.raises(UsageError, match=match) as caught:
        load_bank(make_bank(**changes))
    assert "\n" not in str(caught.value)


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


def test_the_grid_holds_the_first_rows_of_every_class(make_bank):
    bank = load_bank(make_bank())
    grid = class_grid(bank.synthetic, 4, 2)
    assert grid.shape == (4, 2, 8)
    assert np.array_equal(grid[2], bank.synthetic.features[bank.synthetic.labels == 2][:2])


def test_more_keys_than_the_poorest_class_has_are_refused(make_bank):
    with pytest.raises(UsageError, match=r"cache.keys_per_class: got 4; allowed: 1 to 3"):
        class_grid(load_bank(make_bank()).synthetic, 4, 4)


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
