"""The server's and the sites' Flower apps on a grid in memory: messages as Flower has them, without its processes."""

import json
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

from cachefl_jax import simulate
from cachefl_jax.errors import UsageError
from cachefl_jax.simulation.metrics import read_lines
from cachefl_jax.simulation.prepare import prepare

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("in_a_run")]
NAMES = ["north", "south", "west"]  # as `pilot` calls them
NEAR = 1e-6


def test_a_pilot_leaves_the_simulators_keys_and_bytes(config_of, pilot):
    """Its folder has the simulator's keys, losses, accuracies and counted bytes; an array is 128 bytes longer on the
    wire."""
    config = config_of()
    results, path = simulate(config), pilot(config)
    artefact = load_file(path / "cache.safetensors")["keys"]
    np.testing.assert_allclose(artefact, results.artefact["keys"], rtol=0, atol=NEAR)
    assert np.abs(artefact - load_file(path / "cache_init.safetensors")["keys"]).max() > 1e-2
    lines = read_lines(path / "metrics.jsonl")
    assert len(lines) == 4
    for ours, theirs in zip(lines, results.records, strict=True):
        for name in ("round", "bytes_up", "bytes_down", "cohort", "test_accuracy", "validation_accuracy"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-6), name
        for way in ("up", "down"):
            assert ours[f"wire_{way}"] == ours[f"bytes_{way}"] + 128 * ours["cohort"]
    told = json.loads((path / "summary.json").read_text())
    rows = np.diff(prepare(config).partition.offsets)
    assert told["pilot"]["sites"] == [
        {"name": name, "rows": count, "rounds": 3} for name, count in zip(NAMES, rows.tolist(), strict=True)
    ]
    assert told["pilot"]["bytes_up"] == sum(line["bytes_up"] for line in results.records)


@pytest.mark.parametrize("how", ["silent", "gone"])
def test_a_site_that_is_lost_is_left_out_from_then_on(config_of, pilot, federate, how):
    """The second site answers no more from round 2 on, and rounds 2 and 3 are without it."""
    config = config_of()
    path = pilot(config, [(101, how, "2")])
    work, _ = federate(config, {1: (1,), 2: (1,)})
    np.testing.assert_allclose(load_file(path / "cache.safetensors")["keys"], work.state.params.keys, rtol=0, atol=NEAR)
    assert [line["sites"] for line in read_lines(path / "metrics.jsonl")[1:]] == [NAMES, ["north", "west"]] + [
        ["north", "west"]
    ]
    assert "round 2: south did not answer and is left out" in (path / "pilot.log").read_text()


def test_a_round_that_nobody_answers_ends_the_pilot(config_of, pilot):
    lost = [(100 + number, "silent", "2") for number in range(3)]
    with pytest.raises(UsageError, match="none of north, south, west answered in round 2"):
        pilot(config_of(), lost)


def test_a_site_of_another_config_is_refused_by_name_and_field(config_of, pilot, site):
    config = config_of()
    contexts = [site(0, config), site(1, config_of(**{"local.epochs": 5})), site(2, config)]
    with pytest.raises(UsageError, match=r"a site: got refused.*local.epochs: got 5; allowed: 2, as the server has it"):
        pilot(config, contexts=contexts)


def test_a_site_that_is_not_on_the_list_is_refused(config_of, pilot, site):
    config = config_of()
    with pytest.raises(UsageError, match=r"--name: got east; allowed: one of --sites, north, south, west"):
        pilot(config, contexts=[site(0, config, "east")])


def test_sites_that_do_not_come_are_named(config_of, pilot, site):
    config = config_of()
    with pytest.raises(UsageError, match="south, west did not come"):
        pilot(config, contexts=[site(0, config)])


def test_a_round_goes_on_some_time_after_the_last_answer(config_of, pilot):
    """With late_seconds the sites that have answered are enough, long before a round's own seconds are over."""
    began = time.monotonic()
    path = pilot(config_of(rounds=1), [(101, "silent", "1")], late_seconds=0.1, round_seconds=3600.0)
    assert time.monotonic() - began < 300
    assert read_lines(path / "metrics.jsonl")[1]["sites"] == ["north", "west"]
