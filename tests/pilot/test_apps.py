"""The server's and the sites' Flower apps on a grid in memory: messages as Flower has them, without its processes."""

import collections
import json
import pathlib
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

from cachefl_jax import simulate
from cachefl_jax.errors import UsageError
from cachefl_jax.pilot import site_app
from cachefl_jax.pilot.site_process import END
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


def end_of(context) -> dict:
    """How a site is to end."""
    return json.loads((pathlib.Path(context.node_config["site"]).parent / END).read_text())


def test_a_site_of_another_config_is_refused_and_the_others_wait(config_of, pilot, site, tmp_path):
    """The field is told in one line at the server and at the site, which ends."""
    config = config_of()
    contexts = [site(0, config), site(1, config_of(**{"local.epochs": 5})), site(2, config)]
    with pytest.raises(UsageError, match="--sites: got south did not come"):
        pilot(config, contexts=contexts)
    line = "local.epochs: got 5; allowed: 2, as the server has it; mend: give the site the server's config"
    assert f"south is refused: {line}" in (tmp_path / "pilot" / "pilot.log").read_text()
    assert str(UsageError(**end_of(contexts[1]))) == line
    for context in (contexts[0], contexts[2]):  # who was there is told that it is over
        assert "ended the pilot without a result" in str(UsageError(**end_of(context)))


def test_a_site_that_is_not_on_the_list_is_refused_and_the_right_one_taken(config_of, pilot, site):
    config = config_of()
    contexts = [site(0, config), site(1, config, "South"), site(2, config), site(1, config)]
    path = pilot(config, contexts=contexts)
    np.testing.assert_allclose(
        load_file(path / "cache.safetensors")["keys"], simulate(config).artefact["keys"], rtol=0, atol=NEAR
    )
    log = (path / "pilot.log").read_text()
    line = "--name: got South; allowed: a name that the server expects; mend: --name=south"
    assert f"South is refused: {line} (the sites are north, south, west)" in log
    assert str(UsageError(**end_of(contexts[1]))) == line
    for context in (contexts[0], *contexts[2:]):
        assert end_of(context) == {"line": "the pilot is done, after 3 rounds"}
    rows = pathlib.Path(contexts[3].node_config["site"]).parent / "told.log"
    assert len(rows.read_text().splitlines()) == 1 + config.rounds


def test_a_second_site_of_a_name_is_refused(config_of, pilot, site):
    """While the first one is there, unless it brings as many rows, as one that was started anew."""
    config = config_of()
    contexts = [site(2, config, "other"), site(0, config), site(1, config, "again"), site(1, config), site(2, config)]
    for context in (contexts[0], contexts[2]):  # the last one answers first
        file = pathlib.Path(context.node_config["site"])
        file.write_text(json.dumps(json.loads(file.read_text()) | {"name": "south"}))
    path = pilot(config, contexts=contexts)
    log = (path / "pilot.log").read_text()
    assert log.count("south is refused: --data: got ") == 1
    assert "as south is there already with; mend: end the other one first, or correct --name" in log
    np.testing.assert_allclose(
        load_file(path / "cache.safetensors")["keys"], simulate(config).artefact["keys"], rtol=0, atol=NEAR
    )


def test_a_site_that_refuses_in_a_round_is_left_out(config_of, pilot, site, federate, monkeypatch):
    """What goes wrong at one site, such as images that can no longer be read, does not end the pilot."""
    config, read, seen = config_of(), site_app.read_site, collections.Counter()

    def read_twice(config, data, *others):
        seen[data] += 1
        if "south" in data and seen[data] > 2:
            raise UsageError("--data", data, "rows that can be read", "bring them back")
        return read(config, data, *others)

    monkeypatch.setattr(site_app, "read_site", read_twice)
    path = pilot(config)
    assert [line["sites"] for line in read_lines(path / "metrics.jsonl")[1:]] == [NAMES, *[["north", "west"]] * 2]
    assert "round 2: south refuses (--data: got " in (path / "pilot.log").read_text()
    work, _ = federate(config, {1: (1,), 2: (1,)})
    np.testing.assert_allclose(load_file(path / "cache.safetensors")["keys"], work.state.params.keys, rtol=0, atol=NEAR)


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
