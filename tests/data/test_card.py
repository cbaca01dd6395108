"""The partition card's figures against plain dense formulas, at any size, and as JSON."""

import json
import subprocess
import sys

import numpy as np
import pytest
from counting import class_counts

from cachefl_jax.config import default
from cachefl_jax.data import card
from cachefl_jax.data.card import cells_of, count_arrays, distances, effective_classes, held_cells, partition_card
from cachefl_jax.data.partition import Partition, make_partition, partition_hash

NAMES = [f"class {number}" for number in range(8)]


def settings_of(**changes):
    config = default().partition
    config.update({"clients": 12, "concentration": 0.3, **changes})
    return config


def labels_of(rows: int = 400) -> np.ndarray:
    """Of eight classes the last has no rows."""
    return np.random.default_rng(0).choice(7, size=rows, p=np.arange(1, 8) / 28).astype(np.int32)


def test_figures_are_those_of_the_dense_table():
    labels, config = labels_of(), settings_of()
    partition = make_partition(labels, config, 5)
    found = partition_card(partition, labels, NAMES, config, 5)
    counts = class_counts(partition, labels, 8)
    sizes, overall = counts.sum(axis=1), np.bincount(labels, minlength=8) / 400
    shares = counts / sizes[:, None]
    effective = [np.exp(-sum(share * np.log(share) for share in row if share > 0)) for row in shares]
    variation = np.abs(shares - overall).sum(axis=1) / 2
    hellinger = np.sqrt(((np.sqrt(shares) - np.sqrt(overall)) ** 2).sum(axis=1) / 2)
    quantiles = dict(zip(("least", "lower_quartile", "median", "upper_quartile", "most"), range(5), strict=True))
    for name, place in quantiles.items():
        assert found["sizes"][name] == np.percentile(sizes, 25 * place)
        assert found["effective_classes"][name] == pytest.approx(np.percentile(effective, 25 * place))
    for name, values in (("total_variation", variation), ("hellinger", hellinger)):
        assert found["distance_to_all"][name]["mean"] == pytest.approx(values.mean())
        assert found["distance_to_all"][name]["weighted_mean"] == pytest.approx((values * sizes).sum() / 400)


def test_the_card_says_how_it_came_about():
    labels, config = labels_of(), settings_of(least=20, change="blur", change_strength=0.3)
    partition = make_partition(labels, config, 5)
    found = partition_card(partition, labels, NAMES, config, 5)
    assert found == json.loads(json.dumps(found, allow_nan=False))
    assert found["hash"] == partition_hash(partition)
    assert found["repairs"] == partition.repairs > 0
    assert found["settings"] == {"over": "classes", "concentration": 0.3}
    told = ("scheme", "seed", "clients", "samples", "classes", "least", "change", "change_strength")
    assert [found[name] for name in told] == ["dirichlet", 5, 12, 400, 8, 20, "blur", 0.3]
    assert found["classes_without_samples"] == {"number": 1, "names": ["class 7"]}
    assert found["clients_without_samples"] == 0


def test_what_was_found_has_no_seed_and_no_change_no_strength():
    labels, config = labels_of(), settings_of(name="natural", clients=0)
    partition = make_partition(labels, config, 5, groups=np.arange(400) % 4)
    found = partition_card(partition, labels, NAMES, config, 5)
    assert [found[name] for name in ("scheme", "seed", "settings", "change_strength")] == ["natural", None, {}, None]


def test_ends_of_the_scales():
    """One class only against all alike; clients without rows have no labels to measure."""
    labels = np.array([0, 1, 0, 1, 2, 3])
    partition = Partition(np.array([0, 2, 4, 4, 6]), np.array([0, 2, 4, 5, 1, 3]))
    cells = held_cells(partition, labels, 4)
    np.testing.assert_allclose(effective_classes(cells), [1, 2, 1, 1])
    np.testing.assert_array_equal(cells.sizes, [2, 2, 0, 2])
    alike = held_cells(Partition(np.array([0, 3, 6]), np.array([0, 1, 4, 2, 3, 5])), np.array([0, 1, 0, 1, 2, 2]), 3)
    assert max(values.max() for values in distances(alike, np.array([2, 2, 2])).values()) < 1e-7
    apart = distances(held_cells(partition, labels, 4), np.array([0, 2, 0, 0]))
    np.testing.assert_allclose(apart["total_variation"][[0, 3]], [1, 0])
    found = partition_card(partition, labels, NAMES[:4], settings_of(), 0)
    assert found["clients_without_samples"] == 1
    assert found["effective_classes"]["least"] == 1


def test_counts_come_back_from_what_a_run_keeps(monkeypatch):
    labels = labels_of()
    partition = make_partition(labels, settings_of(), 0)
    dense = count_arrays(partition, labels, 8)
    np.testing.assert_array_equal(dense["class_counts"], class_counts(partition, labels, 8))
    monkeypatch.setattr(card, "MOST_DENSE", 95)
    sparse = count_arrays(partition, labels, 8)
    assert sorted(sparse) == ["cell_counts", "cells"]
    for name, ours, theirs in zip(card.Cells._fields, cells_of(dense, 12, 8), cells_of(sparse, 12, 8), strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=name)


def test_a_million_clients_and_a_thousand_classes_need_no_table():
    """[C, N] would be 8 GB."""
    rows = 1_000_000
    labels = np.arange(rows) % 1000
    partition = Partition(np.arange(rows + 1), np.arange(rows))
    found = partition_card(partition, labels, [str(label) for label in range(1000)], settings_of(clients=rows), 0)
    assert found["distance_to_all"]["total_variation"]["mean"] == pytest.approx(0.999)
    assert sorted(count_arrays(partition, labels, 1000)) == ["cell_counts", "cells"]


def test_dealing_out_needs_no_heavy_library():
    heavy = "{'jax', 'torch', 'transformers', 'sklearn', 'scipy', 'matplotlib'}"
    code = f"import sys, cachefl_jax.data, cachefl_jax.data.skew; sys.exit(str({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr.strip() == "set()"
