"""The audit of a finished run: its files, its words, and what it refuses in one line."""

import json

import pytest

from cachefl_jax.config import changed, default
from cachefl_jax.errors import UsageError
from cachefl_jax.privacy.audit import scores
from cachefl_jax.privacy.audit.part import Settings
from cachefl_jax.simulation import audit as audits
from cachefl_jax.simulation.audit import PARTS, audit
from cachefl_jax.simulation.train import train_and_evaluate

pytestmark = pytest.mark.quick

FEW = Settings(trials=20, shadows=8)
PRIVATE = {"privacy.mechanism": "gaussian", "privacy.epsilon": 2.0, "aggregation.name": "uniform"}


@pytest.fixture(scope="module")
def run(tmp_path_factory, make_bank_in):
    """(changes of the config) -> the folder of its finished run on four classes, made once."""
    bank, made = make_bank_in(tmp_path_factory.mktemp("bank")), {}

    def make(**changes):
        name = repr(changes)
        if name not in made:
            config = default()
            config.data.name, config.data.path, config.partition.clients = "feature_bank", str(bank), 3
            config.cache.keys_per_class, config.rounds, config.eval_every, config.checkpoint_every = 2, 2, 2, 2
            config.engine.devices, config.compare = 1, ("cachefl",)
            made[name] = tmp_path_factory.mktemp("run") / "run"
            train_and_evaluate(changed(config, changes), made[name])
        return made[name]

    return make


def read(folder):
    return json.loads((folder / "audit.json").read_text())["parts"], (folder / "audit.html").read_text()


def test_a_private_run_is_held_against_its_promise_and_left_as_it_was(run):
    folder, names = run(**PRIVATE), ("promise", "canaries", "membership")
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert audit(folder, names, FEW) == folder / "audit.html"
    parts, page = read(folder)
    assert tuple(parts) == names
    assert parts["membership"]["rounds_seen"] == [1, 2]
    assert parts["promise"]["epsilon"] == parts["canaries"]["epsilon_promised"] == pytest.approx(2.0, abs=0.01)
    assert parts["canaries"]["refuted"] is False
    assert "not refuted; that does not prove it" in page
    after = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert before.items() <= after.items()
    assert set(after) - set(before) <= {"audit.json", "audit.html", ".lock"}


@pytest.mark.parametrize(
    ("changes", "canary", "sees"),
    [
        (PRIVATE | {"privacy.mechanism": "matrix", "participation.name": "cyclic", "cohort": 2}, "client", "aggregate"),
        (
            PRIVATE
            | {"participation.name": "poisson", "cohort": 2}
            | {"privacy.quantile": 0.5, "privacy.quantile_noise": 2.0},
            "client",
            "aggregate",
        ),
        ({"privacy.mechanism": "local", "privacy.epsilon": 2.0}, "client", "update"),
        ({"privacy.mechanism": "dpsgd", "privacy.epsilon": 2.0}, "example", "update"),
        ({"aggregation.name": "secure_mean", "local.algorithm": "ditto"}, "client", "aggregate"),
    ],
    ids=["matrix", "poisson", "local", "dpsgd", "secure"],
)
def test_each_kind_of_run_has_its_canary(run, changes, canary, sees):
    folder = run(**changes)
    audit(folder, ("canaries",), FEW)
    found = read(folder)[0]["canaries"]
    assert (found["canary"], found["sees"]) == (canary, sees)
    assert found["refuted"] is (False if "privacy.mechanism" in changes else None)
    if "privacy.mechanism" not in changes:
        assert found["epsilon_at_least"] > 0.5  # nearly all that 20 trials can tell


def test_what_cannot_be_audited_is_refused_in_one_line(run, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"--workdir: got .* \(no config.json\)"):
        audit(tmp_path, tuple(PARTS), FEW)
    with pytest.raises(UsageError, match="compare: got zero_shot; allowed: a run that compares"):
        audit(run(compare=("zero_shot",)), tuple(PARTS), FEW)
    with pytest.raises(UsageError, match="method: got .*; allowed: a method whose clients train"):
        audit(run(method="ridge", compare=("ridge",)), tuple(PARTS), FEW)
    with pytest.raises(UsageError, match="local.algorithm: got scaffold"):
        audit(run(**{"local.algorithm": "scaffold", "local.optimizer": "sgd"}), ("canaries",), FEW)
    monkeypatch.setattr(scores.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"no package jax-privacy.*pip install"):
        audit(run(), ("canaries",), FEW)
    assert not (run(compare=("zero_shot",)) / "audit.json").exists()


def test_nothing_is_written_where_a_part_fails(run, monkeypatch):
    folder = run(rounds=1)
    monkeypatch.setitem(audits.PARTS, "broken", lambda context: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        audit(folder, ("promise", "broken"), FEW)
    assert not (folder / "audit.json").exists()
    assert not (folder / "audit.html").exists()


def test_an_unfinished_run_is_refused(run):
    folder = run(rounds=3)
    (folder / "summary.json").unlink()
    with pytest.raises(UsageError, match=r"not finished"):
        audit(folder, ("promise",), FEW)
