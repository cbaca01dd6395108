"""Our schemes deal as those of flwr-datasets do: held to figures recorded from it (flwr_reference.py says how)."""

import json
import pathlib

import flwr_reference
import numpy as np
import pytest

from cachefl_jax.config import default
from cachefl_jax.data.partition import make_partition
from cachefl_jax.data.schemes import apportion

RECORDED = json.loads(pathlib.Path(__file__).with_name("flwr_reference.json").read_text())
DELIVERED = "dirichlet classes 0.5 as delivered"
SETTINGS = {
    "iid": {"name": "iid"},
    **{f"dirichlet classes {value}": {"concentration": value} for value in (0.1, 0.5, 5.0)},
    **{f"dirichlet clients {value}": {"over": "clients", "concentration": value} for value in (1.0, 5.0, 50.0)},
    "pathological 2": {"name": "pathological", "classes_per_client": 2},
    "shards 2": {"name": "shards", "shards_per_client": 2},
}
# Who wishes first takes what there is: see flwr_reference.py. Ours is held to its own rule in test_schemes.py.
SHARES_OF_ANOTHER_ORDER = 0.05


def ours(changes: dict) -> np.ndarray:
    """[200 seeds, statistics] of our scheme."""
    config = default().partition
    config.update({"name": "dirichlet", "clients": flwr_reference.CLIENTS, "least": 0, **changes})
    rows = []
    for seed in range(flwr_reference.SEEDS):
        labels = flwr_reference.labels_of(seed)
        rows.append(flwr_reference.statistics(make_partition(labels, config, seed).owners, labels))
    return np.array(rows)


@pytest.mark.parametrize("name", SETTINGS)
def test_the_mean_partition_is_theirs(name):
    """Means over 200 seeds, within four standard errors of their difference."""
    theirs, rows = RECORDED["settings"][name], ours(SETTINGS[name])
    assert theirs["seeds"] == len(rows)
    errors = np.sqrt((rows.var(axis=0, ddof=1) + np.square(theirs["deviation"])) / len(rows))
    tolerance = 4 * errors + 1e-9
    if "over" in SETTINGS[name]:
        tolerance = SHARES_OF_ANOTHER_ORDER * np.array(theirs["mean"]) + 1e-9
    differences = dict(zip(RECORDED["statistics"], rows.mean(axis=0) - theirs["mean"], strict=True))
    assert (np.abs(list(differences.values())) < tolerance).all(), differences


def test_their_own_settings_are_told_from_ours():
    """Self-balancing and starting anew leave fewer classes and more even sizes: not what the concentration says."""
    rows, theirs = ours(SETTINGS["dirichlet classes 0.5"]), RECORDED["settings"][DELIVERED]
    effective, _, spread, _ = rows.mean(axis=0)
    assert theirs["mean"][0] < 0.95 * effective
    assert theirs["mean"][2] < 0.75 * spread


def test_a_law_becomes_whole_sizes_as_theirs():
    """A law's sizes are cut to whole rows: theirs below and the rest to the last, ours to within one row."""
    law, sizes = np.arange(1, flwr_reference.CLIENTS + 1), np.array(RECORDED["linear_sizes"])
    mine = apportion(law / law.sum(), flwr_reference.ROWS)
    assert mine.sum() == sizes.sum() == flwr_reference.ROWS
    assert np.abs(mine - sizes)[:-1].max() <= 1


@pytest.mark.parametrize("name", [*SETTINGS, DELIVERED])
def test_the_record_is_what_they_deal(name):
    pytest.importorskip("flwr_datasets", reason="flwr-datasets is not installed, so its recorded figures stand alone")
    labels = flwr_reference.labels_of(0)
    owners = flwr_reference.owners_by(flwr_reference.partitioners()[name](0), labels)
    np.testing.assert_allclose(flwr_reference.statistics(owners, labels), RECORDED["settings"][name]["first"])
