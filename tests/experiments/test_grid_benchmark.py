"""The benchmark of grids: by hand the same models are trained as by a study, and every way takes its turn."""

import json
import runpy
import subprocess
import sys

import numpy as np
import pytest

from cachefl_jax.study.folder import RUNS, read_lines
from cachefl_jax.study.plan import study_of
from cachefl_jax.study.run import run_study
from experiments.benchmarks import by_hand, grid

pytestmark = pytest.mark.quick
FIELDS = {"rounds": 4, "budget": 8, "seeds": 2, "grid": {"local.learning_rate": (3e-3, 1e-2)}}


@pytest.fixture
def config_file(make_bank, tmp_path):
    # Test rows near no class: every change of the keys changes some answers.
    bank = make_bank(test_features=np.random.default_rng(1).normal(size=(40, 8)).astype(np.float32))
    file = tmp_path / "config.py"
    file.write_text(grid.CONFIG.format(bank=str(bank), **FIELDS))
    return file


def test_by_hand_is_what_a_study_trains(config_file, tmp_path, capsys):
    run_study(study_of(runpy.run_path(str(config_file))["get_config"](), [{}]), tmp_path / "study")
    lines = list(read_lines(tmp_path / "study" / RUNS).values())
    assert {line["values"]["local.optimizer"] for line in lines} == {"adamw", "sgd"}
    file = tmp_path / "points.json"
    file.write_text(json.dumps([{"seed": line["seed"], "values": line["values"]} for line in lines]))
    capsys.readouterr()
    by_hand.main(str(config_file), str(file))
    found, expected = json.loads(capsys.readouterr().out), [line["entry"]["test_accuracy"] for line in lines]
    assert found == pytest.approx(expected, abs=grid.SAME)
    assert np.ptp(expected) > 0


def test_ratios_are_the_medians_of_each_turns_own(capsys):
    turns = [
        {way: {"seconds": seconds, "cpu_seconds": 2 * seconds} for way, seconds in zip(grid.WAYS, numbers, strict=True)}
        for numbers in ([1.0, 9.0, 4.0, 1.5, 2.2, 2.0], [2.0, 12.0, 6.0, 2.0, 4.4, 4.0], [1.0, 7.0, 5.0, 1.0, 3.0, 2.0])
    ]
    assert grid.tell(turns, 10)["processes"] == {"seconds": 9.0, "cpu_seconds": 18.0}
    told = capsys.readouterr().out.splitlines()
    assert told[1] == "processes     9.000 s a point (18.000 of all cores), 7.00 times sweep (7.00); 90 s for 10"
    assert "1.10 times by hand" in told[4]


def test_every_way_takes_its_turn(make_bank, tmp_path):
    words = (f"--bank={make_bank()}", f"--output={tmp_path / 'out'}", "--grid=1", "--rounds=1", "--repeats=1")
    command = [sys.executable, "-m", "experiments.benchmarks.grid", *words, "--seeds=1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "out" / "grid.json").read_text())
    assert told["points"] == 1
    assert list(told["a_point"]) == list(grid.WAYS)
    assert all(seconds > 0 for way in told["a_point"].values() for seconds in way.values())
