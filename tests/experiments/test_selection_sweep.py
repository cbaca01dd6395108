"""The sweep over rules of selection is one that configs take, and its table says what the points came to."""

import itertools

import pytest

from cachefl_jax.config import resolve
from cachefl_jax.configs import selection, selection_real
from experiments.benchmarks import selection as tables


def overrides_of(sweep) -> list[dict]:
    found = []
    sweep(lambda **fields: found.append(fields))
    return found


@pytest.mark.parametrize(
    ("module", "name"),
    [*itertools.product([selection], ["digits", "feature_bank", "image_folder"])]
    + [*itertools.product([selection_real], ["digits", "image_folder"])],
)
def test_every_point_of_the_sweep_is_valid(module, name):
    config = module.get_config(name)
    if name != "digits":
        config.data.path = "bank.npz"
    if name == "image_folder":
        config.synthesis.path = "drawn"
    points = overrides_of(module.sweep)
    assert len(points) == 2 * 5 * len({point["synthesis.selection"] for point in points})
    for point in (point for point in points if not point["seed"]):
        config.update_from_flattened_dict(point)
        resolve(config)
    assert config.synthesis.images_per_class == 64


def point(number: int, keys: int, rule: str, seed: int, test: float, validation: float) -> dict:
    entries = {
        "cachefl": {"test_accuracy": test, "validation_accuracy": validation},
        "cache_init": {"test_accuracy": test - 0.1, "validation_accuracy": 0.0},
    }
    overrides = {"cache.keys_per_class": keys, "synthesis.selection": rule, "seed": seed}
    return {"point": number, "method": "cachefl", "methods": entries, "overrides": overrides}


def test_the_table_has_means_errors_and_differences_by_seed(monkeypatch, tmp_path):
    accuracies = {"first": (0.50, 0.70), "margin": (0.53, 0.74), "means": (0.40, 0.80)}
    rows = [
        point(number, 4, rule, seed, accuracies[rule][seed], {"first": 0.6, "margin": 0.7, "means": 0.5}[rule])
        for number, (seed, rule) in enumerate(itertools.product((0, 1), accuracies))
    ]
    monkeypatch.setattr(tables, "read_results", lambda path: rows)
    cells = tables.read(tmp_path)
    assert tables.mean_and_error([0.5, 0.7]) == pytest.approx((60, 10))
    assert tables.difference(cells, 4, "margin", "tuned") == "+3.50 ± 0.50*"  # 3 and 4
    assert tables.difference(cells, 4, "means", "start") == "+0.00 ± 10.00"  # -10 and 10
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in tables.table(cells).splitlines()]
    assert lines[2] == ["4", "first", "50.00 ± 10.00", "", "60.00 ± 10.00", "", "60.00 ± 0.00"]
    assert lines[3][:4] == ["4", "margin", "53.50 ± 10.50", "+3.50 ± 0.50*"]
    assert tables.chosen(cells, 4) == "4 keys: validation rows choose margin, +3.50 ± 0.50* less first on test rows."
