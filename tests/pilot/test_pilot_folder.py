"""What a pilot leaves, in the hands of the other commands: each has the simulator's figures, or says what it needs."""

import json
import re

import numpy as np
import pytest
from command_line import assert_refused
from safetensors import safe_open

from cachefl_jax import simulate
from cachefl_jax.deploy.model import read_model
from cachefl_jax.deploy.predict import predict
from cachefl_jax.report import write_report
from cachefl_jax.simulation.metrics import read_lines
from cachefl_jax.simulation.prepare import prepare

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("in_a_run")]
ROWS = ("zero_shot", "cache_init", "cachefl")


@pytest.fixture
def config(config_of):
    return config_of(rounds=2, checkpoint_every=1, compare=ROWS)


@pytest.fixture
def folder(config, pilot):
    return pilot(config)


def near(text: str):
    """A number of a JSON text, equal to all that are it up to float32's rounding."""
    return pytest.approx(float(text), rel=1e-5)


def test_the_summary_is_the_simulators(config, folder):
    """Every figure of every row but those over the clients, and seconds; what is said of the data."""
    theirs, ours = simulate(config).summary, json.loads((folder / "summary.json").read_text())
    assert list(ours["methods"]) == list(theirs["methods"])
    for name, entry in theirs["methods"].items():
        found = ours["methods"][name]
        assert found.keys() == entry.keys()
        assert set(found["clients"].values()) == {None}
        for field in entry.keys() - {"clients", "seconds_per_round"}:
            assert json.loads(json.dumps(found[field]), parse_float=near) == entry[field], (name, field)
    assert ours["methods"]["cachefl"]["client_flops_per_round"] > 0
    assert ours["dataset"] == theirs["dataset"]
    with safe_open(folder / "cache.safetensors", "numpy") as file:
        assert json.loads(file.metadata()["data"])["rows"] == len(prepare(config).bank.train.labels)


def test_evaluate_finds_the_figures_of_every_round(quick_start, folder):
    """From its checkpoints, on the server's own rows."""
    lines, summary = read_lines(folder / "metrics.jsonl"), json.loads((folder / "summary.json").read_text())
    for number in (1, 2):
        done = quick_start(f"--workdir={folder}", f"--round={number}", command="evaluate")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        for name in ("test_accuracy", "validation_accuracy", "test_ece", "test_cross_entropy"):
            assert found[name] == pytest.approx(lines[number][name], rel=1e-5), name
    assert found["test_class_accuracy"] == pytest.approx(summary["methods"]["cachefl"]["test_class_accuracy"])
    assert set(found["clients"].values()) == {None}
    assert found["round"] == 2


def test_the_report_tells_what_a_server_of_real_sites_knows(folder):
    """Accuracy, bytes and what each site brought; of classes at the sites, and of a simulator's seconds, nothing."""
    summary = json.loads((folder / "summary.json").read_text())
    page = write_report([folder]).read_text()
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page))
    assert f"{100 * summary['methods']['cachefl']['test_accuracy']:.1f}%" in text
    for site in summary["pilot"]["sites"]:
        assert f"{site['name']} {site['rows']:,} samples, in 2 rounds" in text
    assert "no site told the server of which classes" in text
    assert "nobody compared them with a site" in text
    assert "A round took" in text
    assert "simulator took" not in text
    both = write_report([folder, folder], folder / "both.html").read_text()
    assert both.count("north") == 1  # what they share is shown once


def test_predict_has_the_accuracy_of_the_last_round(config, folder, tmp_path):
    summary, bank = json.loads((folder / "summary.json").read_text()), prepare(config).bank
    found = predict(read_model(folder / "cache.safetensors"), np.asarray(bank.test.features), 0)
    assert (found.predicted == bank.test.labels).mean() == summary["methods"]["cachefl"]["test_accuracy"]


def test_what_asks_for_the_sites_rows_is_refused(quick_start, config, folder):
    """An audit trains on them, and a run would go on from the pilot's checkpoints."""
    before = sorted(folder.iterdir())
    assert_refused(quick_start(f"--workdir={folder}", command="audit"), "--workdir: got ", "(a pilot's)")
    words = ["--config=experiments/configs/feature_bank.py", f"--config.data.path={config.data.path}"]
    assert_refused(quick_start(*words, f"--workdir={folder}", command="run"), "--workdir: got ", "(a pilot's)")
    assert sorted(folder.iterdir()) == before
