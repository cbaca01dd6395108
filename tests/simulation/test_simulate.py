"""`cachefl_jax.simulate`: a run's results in a Python program, with files only where a folder is named."""

import inspect
import json
import re
import signal
import subprocess
import sys
import textwrap

import jax
import numpy as np
import pytest
from safetensors import safe_open

from cachefl_jax import simulate
from cachefl_jax.config import default
from cachefl_jax.errors import UsageError
from cachefl_jax.simulation import rounds

pytestmark = pytest.mark.quick


@pytest.fixture
def config(make_bank):
    """Three rounds at three clients, on a bank of four classes."""
    config = default()
    config.data.name, config.data.path, config.data.validation_share = "feature_bank", str(make_bank()), 0.0
    config.partition.clients, config.cache.keys_per_class, config.rounds = 3, 2, 3
    config.methods, config.eval_every, config.engine.devices = ("zero_shot", "cachefl"), 2, 1
    return config


def assert_same(one, other):
    """Two runs' results, but for the seconds that they took."""
    np.testing.assert_array_equal(one.params.keys, other.params.keys, strict=True)
    np.testing.assert_array_equal(one.artefact["keys"], other.artefact["keys"], strict=True)
    assert one.metadata == other.metadata
    figures = [
        [{name: value for name, value in entry.items() if not name.startswith("seconds")} for entry in entries]
        for results in (one, other)
        for entries in (results.records, results.summary["methods"].values())
    ]
    assert figures[:2] == figures[2:]


def test_the_example_of_its_docstring_runs(capsys):
    example = re.search(r"((?:^    .*\n|^\n)+)", inspect.getdoc(simulate), re.MULTILINE)
    exec(textwrap.dedent(example[1]), {})
    assert capsys.readouterr().out.startswith("(10, 2, 128) 0.")


def test_without_a_folder_nothing_is_written_printed_or_handled(config, tmp_path, monkeypatch, capsys):
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    monkeypatch.chdir(tmp_path)
    given = config.to_dict()
    results = simulate(config)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert capsys.readouterr().out == ""
    assert config.to_dict() == given
    assert results.params.keys.shape == (4, 2, 8)
    assert [record["round"] for record in results.records] == [0, 1, 2, 3]
    assert [record["test_accuracy"] is None for record in results.records] == [False, True, False, False]
    assert list(results.summary["methods"]) == ["zero_shot", "cachefl"]


def test_a_folder_changes_no_result_and_is_read_where_it_is_done(config, tmp_path, monkeypatch, capsys):
    alone, run = simulate(config), tmp_path / "run"
    within = simulate(config, run)
    assert_same(alone, within)
    assert within.summary == json.loads((run / "summary.json").read_text())
    assert within.records == [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    with safe_open(run / "cache.safetensors", "numpy") as file:
        np.testing.assert_array_equal(file.get_tensor("keys"), within.artefact["keys"])
        told = {name: json.loads(text) for name, text in file.metadata().items()}
        assert {name: told[name] for name in within.metadata} == within.metadata
    monkeypatch.setattr(rounds, "some_rounds", None)  # nothing is trained again
    back = simulate(config, str(run))
    assert_same(within, back)
    assert (back.summary, back.records) == (within.summary, within.records)
    assert capsys.readouterr().out == ""


def test_what_is_compared_may_leave_the_method_out(config, tmp_path):
    config.methods = ("zero_shot",)
    for _ in range(2):
        results = simulate(config, tmp_path / "run")
        assert (results.records, results.params, results.artefact, results.metadata) == ([], None, {}, {})
        assert results.summary["methods"]["zero_shot"]["test_accuracy"] > 0


def test_devices_may_be_fewer_from_call_to_call_and_not_more_than_jax_began_with(config):
    one = simulate(config)
    config.engine.devices = jax.device_count()
    two = simulate(config)
    np.testing.assert_allclose(one.params.keys, two.params.keys, atol=1e-6)
    config.engine.devices += 1
    with pytest.raises(UsageError, match=r"engine.devices: got 5; allowed: 0 to 4, the devices that JAX runs with"):
        simulate(config)


def test_jax_is_afterwards_as_the_program_has_it(config, capsys):
    plain = simulate(config)
    jax.config.update("jax_enable_x64", True)
    try:
        assert_same(plain, simulate(config))
        assert jax.config.jax_enable_x64
    finally:
        jax.config.update("jax_enable_x64", False)
    assert "JAX_ENABLE_X64" in capsys.readouterr().err


def test_the_package_costs_nothing_to_import():
    told = "import sys, cachefl_jax; print(callable(cachefl_jax.simulate), {'jax', 'numpy'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout == "True set()\n"
