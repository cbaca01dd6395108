"""Whole runs by the plans and programs of an accelerator, which a CPU computes: they end as a CPU's own do."""

import jax
import numpy as np
import pytest

from cachefl_jax import simulate
from cachefl_jax.config import changed, default, resolve
from cachefl_jax.simulation.sweep_points import run_points

pytestmark = pytest.mark.quick
ALIKE = 1e-5
CASES = {
    "coefficients": {"local.optimizer": "sgd", "local.learning_rate": 0.1, "local.momentum": 0.9},
    "adamw, clipped": {"local.clip_norm": 0.2, "local.epochs": 2, "local.batch_size": 4, "cohort": 2},
    "ditto": {"local.algorithm": "ditto", "compare": ("cachefl",)},
    "personal": {"method": "cachefl_personal", "compare": ("cachefl_personal",)},
    "closed form": {"method": "fed_cof", "compare": ("fed_cof", "fed_cof@alone", "fed_cof@centralized")},
    "sums": {"method": "ridge", "compare": ("ridge", "ridge@alone")},
}


@pytest.fixture
def make_config(make_bank):
    """(changes) -> two rounds at five clients of very different sizes, by one device."""
    path = make_bank()

    def make(changes: dict):
        config = default()
        config.data.name, config.data.path = "feature_bank", str(path)
        config.partition.clients, config.partition.concentration, config.cache.keys_per_class = 5, 0.3, 2
        config.compare, config.rounds, config.engine.devices = ("cachefl", "cachefl@alone", "cachefl@centralized"), 2, 1
        return changed(config, changes)

    return make


def figures(node, path: str = "") -> dict[str, float]:
    """All numbers of a tree but times, by their places."""
    if isinstance(node, dict):
        return {place: number for key, leaf in node.items() for place, number in figures(leaf, f"{path}/{key}").items()}
    return {path: node} if isinstance(node, float | int) and "second" not in path else {}


@pytest.mark.parametrize("name", CASES)
def test_a_run_ends_as_on_a_cpu(make_config, monkeypatch, name):
    due = simulate(make_config(CASES[name]))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    found = simulate(make_config(CASES[name]))
    for one, other in zip(jax.tree.leaves(found.params), jax.tree.leaves(due.params), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=ALIKE)
    one, other = figures(found.summary["methods"]), figures(due.summary["methods"])
    assert len(one) > 10
    assert one == pytest.approx(other, abs=ALIKE, rel=ALIKE)


@pytest.mark.parametrize("method", ["fed_cof", "ridge"])
def test_points_of_a_closed_form_side_by_side_are_those_one_after_another(make_config, tmp_path, method):
    changes = [{f"{method}.mix": mix} for mix in (0.1, 1.0, 10.0)]
    configs = [resolve(make_config({"method": method, "compare": (method,), **change})) for change in changes]
    found, due = (run_points(configs, changes, tmp_path / str(way), ["run"], side_by_side=way) for way in (True, False))
    assert [figures(line["methods"]) for line in found] == [figures(line["methods"]) for line in due]
    assert [line["keys_sha256"] for line in found] == [line["keys_sha256"] for line in due]
