"""The comparison of measures with accuracy: sets have the faults that they are called by, points are chosen by
validation, and correlations are those that one knows."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from cachefl_jax.data import FeatureBank, Split, load_bank
from experiments.benchmarks.measured_sets import write_bank
from experiments.benchmarks.set_faults import FAULTS, half_of_each
from experiments.benchmarks.set_measures import (
    GRID,
    KEYS_ALONE,
    accuracies,
    correlations,
    draw,
    interval,
    margin,
    predictors,
    spearman,
    table,
)


@pytest.fixture
def images() -> np.ndarray:
    """Ten classes of 20 images; an image's first pixel tells its class, its second its place."""
    images = np.random.default_rng(0).integers(0, 256, (10, 20, 8, 8, 3), np.uint8)
    images[:, :, 0, 0], images[:, :, 0, 1] = np.arange(10)[:, None, None], np.arange(20)[:, None]
    return images


def changed(images: np.ndarray, kind: str, name: str) -> np.ndarray:
    made = FAULTS[kind][name](images, np.random.default_rng(0))
    assert (made.shape, made.dtype) == (images.shape, np.uint8)
    return made


def test_faults_of_labels(images):
    shown = changed(images, "wrong labels", "30% wrong")[:, :, 0, 0, 0]
    assert ((shown != np.arange(10)[:, None]).sum(axis=1) == 6).all()
    assert (np.bincount(shown.ravel()) == 20).all()
    exchanged = changed(images, "classes exchanged", "4 exchanged")[:, 0, 0, 0, 0]
    assert exchanged.tolist() == [1, 0, 3, 2, 4, 5, 6, 7, 8, 9]


def test_faults_of_images(images):
    distinct = changed(images, "few distinct", "4 distinct")
    assert {len(np.unique(of_class.reshape(20, -1), axis=0)) for of_class in distinct} == {4}
    assert changed(images, "blurred", "blur 2").std() < changed(images, "blurred", "blur 1").std() < images.std()
    grey = np.full_like(images, 128)
    assert changed(grey, "noisy", "noise 20").std() == pytest.approx(20, rel=0.05)
    assert np.ptp(changed(images, "pale", "contrast 0.1")) <= 26
    mixed = half_of_each(images, 255 - images)
    np.testing.assert_array_equal(mixed[:, :10], images[:, :10])
    np.testing.assert_array_equal(mixed[:, 10:], 255 - images[:, 10:])


def result(rate: float, seed: int, validation: float, test: float) -> dict:
    fields = {
        **dict.fromkeys(GRID, 1.0),
        "cache.alpha": KEYS_ALONE,
        "local.learning_rate": rate,
        "seed": seed,
        "data.path": "x",
    }
    entries = {"cachefl": (validation, test), "cache_init": (0.5, 0.4)}
    methods = {name: {"validation_accuracy": v, "test_accuracy": t} for name, (v, t) in entries.items()}
    return {"overrides": fields, "methods": methods}


def test_the_point_is_chosen_by_the_mean_validation_accuracy():
    """The second learning rate has the best test accuracy, and of one seed the best validation accuracy; the third
    diverged."""
    lines = [result(0.1, 0, 0.8, 0.6), result(0.1, 1, 0.8, 0.8), result(0.2, 0, 0.9, 0.9), result(0.2, 1, 0.6, 0.9)]
    lost = [result(0.3, 0, 0.95, 0.95), result(0.3, 1, None, None)]
    found = accuracies(lines + lost)
    started = {"keys_validation": 0.5, "keys": 0.4, "round_0_validation": 0.5, "round_0": 0.4}
    assert found == pytest.approx(started | {"tuned_validation": 0.8, "tuned": 0.7})


def test_keys_alone_are_those_of_the_largest_alpha():
    small = result(0.1, 0, 0.8, 0.6)
    small["overrides"]["cache.alpha"] = 1.0
    small["methods"]["cache_init"] = {"validation_accuracy": 0.7, "test_accuracy": 0.9}
    found = accuracies([small, result(0.1, 0, 0.8, 0.6)])
    assert (found["keys"], found["round_0"]) == (0.4, 0.9)


def test_correlations_are_known_ones(tmp_path):
    rng = np.random.default_rng(0)
    accuracy = np.sort(rng.uniform(size=25))
    chance = rng.uniform(size=25)
    lines = [
        {"predictors": {"same": a**3, "turned": -a, "chance": c, "constant": 1.0}}
        | {"keys": a, "round_0": a, "tuned": a, "round_0_validation": a, "keys_validation": a}
        for a, c in zip(accuracy, chance, strict=True)
    ]
    found = correlations(lines)
    assert found["same"]["tuned"] == pytest.approx([1, 1, 1])
    assert found["turned"]["round_0"] == pytest.approx([-1, -1, -1])
    assert found["constant"]["tuned"] is None
    _, low, high = found["chance"]["tuned"]
    assert low < 0 < high
    assert "| same | 1.00 (1.00 to 1.00) | 1.00 (1.00 to 1.00) | 1.00" in table({"digits": found})
    draw({"digits": found}, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000


def test_rank_correlation_is_that_of_scipy():
    """With ties, of several rows at once."""
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 5, (3, 20)), rng.normal(size=(3, 20))
    expected = [spearmanr(*pair).statistic for pair in zip(first, second, strict=True)]
    np.testing.assert_allclose(spearman(first, second), expected, rtol=1e-12)


def test_an_interval_narrows_with_the_number_of_sets():
    rng = np.random.default_rng(1)
    few, many = (interval(x, x + rng.normal(size=len(x))) for x in (rng.normal(size=10), rng.normal(size=200)))
    assert few[2] - few[1] > 2 * (many[2] - many[1])


def test_more_of_a_predictor_is_meant_to_be_better():
    measured = dict.fromkeys(("frechet", "cmmd", "nearer_another"), 0.25)
    measured |= dict.fromkeys(("precision", "recall", "density", "coverage", "diversity"), 0.5)
    found = predictors({"all": measured, "mean_of_classes": measured}, 0.1)
    assert found["frechet, in all"] == found["cmmd, by class"] == found["nearer_another, by class"] == -0.25
    assert found["coverage, by class"] == 0.5
    assert found["margin to other classes' texts"] == 0.1


def test_a_bank_is_read_as_it_was_written(tmp_path):
    """And its margin is known: of two images one lies on its own text, one halfway between two."""
    rows = Split(np.array([[1, 0], [0.5**0.5, 0.5**0.5]], np.float32), np.array([0, 1], np.int32))
    bank = FeatureBank(rows, rows, rows, rows, np.eye(2, dtype=np.float32), ("ant", "bee"), 20.0, {})
    write_bank(tmp_path / "bank.npz", bank)
    read = load_bank(tmp_path / "bank.npz")
    assert (read.class_names, read.logit_scale) == (("ant", "bee"), 20.0)
    for split in ("train", "validation", "test", "synthetic"):
        np.testing.assert_array_equal(getattr(read, split).features, rows.features)
    assert margin(read) == pytest.approx(0.5)
