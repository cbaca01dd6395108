"""A bank without validation rows gets them out of its training rows, class by class, or keeps all."""

import numpy as np

from cachefl_jax.config import default
from cachefl_jax.data import load_bank
from cachefl_jax.data.bank import hold_out_validation
from cachefl_jax.simulation.prepare import prepare


def without_validation(make_bank, **changes):
    """4 classes with 15 training rows each, or other arrays."""
    return make_bank(val_features=None, val_labels=None, **changes)


def test_every_class_gives_its_share_and_no_row_is_in_both_splits(make_bank):
    whole = load_bank(without_validation(make_bank))
    bank, told = hold_out_validation(whole, 0.2)
    assert np.bincount(bank.validation.labels).tolist() == [3] * 4
    assert np.bincount(bank.train.labels).tolist() == [12] * 4
    rows = {row.tobytes() for split in (bank.train, bank.validation) for row in split.features}
    assert rows == {row.tobytes() for row in whole.train.features}
    again, _ = hold_out_validation(whole, 0.2)
    np.testing.assert_array_equal(again.validation.features, bank.validation.features)
    assert "0.2 of every class's training rows, 12 of 60, were held out" in told[0]


def test_a_class_of_one_row_keeps_it_and_a_share_of_0_keeps_all(make_bank):
    labels = np.repeat([0, 1, 2, 3], [1, 2, 12, 45])
    whole = load_bank(without_validation(make_bank, train_labels=labels))
    bank, _ = hold_out_validation(whole, 0.1)
    assert np.bincount(bank.validation.labels, minlength=4).tolist() == [0, 1, 1, 4]
    for unchanged, told in (hold_out_validation(whole, 0.0), hold_out_validation(load_bank(make_bank()), 0.1)):
        assert told == []
        assert len(unchanged.train.labels) == 60


def test_a_run_holds_them_out_before_it_takes_shots_and_says_so(make_bank):
    config = default()
    config.data.name, config.data.path = "feature_bank", str(without_validation(make_bank))
    config.cache.keys_per_class, config.partition.clients, config.data.shots = 2, 3, 5
    inputs = prepare(config)
    assert len(inputs.bank.train.labels) == 20
    assert len(inputs.bank.validation.labels) == 8  # 10% of 15, rounded, of each of 4 classes
    assert any("held out" in note for note in inputs.notes)
    config.data.validation_share = 0.0
    assert prepare(config).bank.validation is None
