"""A private run tells what it spends, stays within its budget, resumed or not, and refuses what would void it."""

import json
import pathlib

import numpy as np
import pytest

from cachefl_jax.config import changed, default
from cachefl_jax.errors import UsageError
from cachefl_jax.privacy.accounting import Exposure, spent
from cachefl_jax.simulation.train import train_and_evaluate

pytestmark = pytest.mark.quick
CENTRAL = {"privacy.mechanism": "gaussian", "aggregation.name": "uniform", "privacy.accountant": "rdp"}
KNOWN = CENTRAL | {"privacy.noise_multiplier": 2.0}
ALL = {"privacy.mechanism": "distributed", "aggregation.name": "secure_uniform"}


@pytest.fixture(scope="module")
def bank(tmp_path_factory, make_bank_in):
    return make_bank_in(tmp_path_factory.mktemp("bank"))


def config_for(bank: pathlib.Path, **changes):
    config = default()
    config.data.name, config.data.path, config.partition.clients = "feature_bank", str(bank), 3
    config.cache.keys_per_class, config.rounds, config.checkpoint_every, config.eval_every = 2, 4, 2, 2
    config.engine.strategy, config.engine.devices, config.compare = "scan", 1, ("cachefl",)
    return changed(config, changes)


def lines(run: pathlib.Path) -> list[dict]:
    return [{**json.loads(line), "seconds": 0} for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_run_tells_what_it_has_spent_and_is_no_other_when_it_is_given_its_rounds_later(bank, tmp_path):
    once = train_and_evaluate(config_for(bank, **KNOWN), tmp_path / "once")
    train_and_evaluate(config_for(bank, rounds=2, **KNOWN), tmp_path / "twice")
    train_and_evaluate(config_for(bank, **KNOWN), tmp_path / "twice")
    exposure = Exposure("full", 3, 3, "rdp")
    told = [(line["round"], line.get("epsilon")) for line in lines(tmp_path / "once")]
    assert told == [(0, None), (1, None), (2, spent(exposure, 2.0, 2)), (3, None), (4, spent(exposure, 2.0, 4))]
    assert lines(tmp_path / "twice") == lines(tmp_path / "once")
    keys = [(tmp_path / name / "cache.safetensors").read_bytes() for name in ("once", "twice")]
    assert keys[0] == keys[1]
    entry = once["methods"]["cachefl"]
    assert (entry["epsilon"], entry["noise_multiplier"]) == (spent(exposure, 2.0, 4), 2.0)
    assert f"epsilon {entry['epsilon']:.3g} at delta 1e-05" in (tmp_path / "once" / "report.html").read_text()


def test_more_rounds_than_the_budget_allows_are_refused_before_and_after(bank, tmp_path):
    budget = spent(Exposure("full", 3, 3, "rdp"), 2.0, 3) + 1e-9
    with pytest.raises(UsageError, match=r"rounds: got 4, which spend epsilon .*; mend: rounds=3, or raise"):
        train_and_evaluate(config_for(bank, **KNOWN, **{"privacy.epsilon": budget}), tmp_path / "new")
    assert not (tmp_path / "new").exists()
    train_and_evaluate(config_for(bank, rounds=2, **KNOWN, **{"privacy.epsilon": budget}), tmp_path / "run")
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    with pytest.raises(UsageError, match=r"rounds: got 4, which spend"):
        train_and_evaluate(config_for(bank, rounds=4, **KNOWN, **{"privacy.epsilon": budget}), tmp_path / "run")
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before


def test_a_calibrated_run_spends_its_budget_and_has_no_more_rounds(bank, tmp_path):
    config = config_for(bank, rounds=2, **CENTRAL, **{"privacy.epsilon": 3.0})
    told = train_and_evaluate(config, tmp_path / "run")["methods"]["cachefl"]
    assert 2.99 < told["epsilon"] <= 3.0
    config.rounds = 3
    with pytest.raises(UsageError, match=r"rounds: got 3; allowed: 2, for which the run in .* has its noise"):
        train_and_evaluate(config, tmp_path / "run")


@pytest.mark.parametrize("changes", [
    {"privacy.mechanism": "matrix", "participation.name": "cyclic", "cohort": 2, "privacy.bands": 2},
    {"privacy.quantile": 0.5, "privacy.quantile_noise": 20.0, "participation.name": "poisson", "cohort": 2},
    {"privacy.mechanism": "local", "aggregation.name": "median"},
    {"method": "ridge", "compare": ("ridge",)},
    {"privacy.mechanism": "dpsgd", "aggregation.name": "mean", "local.algorithm": "fednova", "local.optimizer": "sgd"},
])  # fmt: skip
def test_other_mechanisms_keep_to_the_budget(bank, tmp_path, changes):
    config = config_for(bank, **CENTRAL | {"privacy.epsilon": 50.0} | changes)
    (entry,) = train_and_evaluate(config, tmp_path / "run")["methods"].values()
    assert 49.9 < entry["epsilon"] <= 50.0
    assert lines(tmp_path / "run")[-1]["epsilon"] == entry["epsilon"]


@pytest.mark.parametrize(("changes", "told"), [
    ({"aggregation.name": "mean"}, r"aggregation.name: got mean; allowed: uniform"),
    ({"local.algorithm": "fednova", "local.optimizer": "sgd"}, r"local.algorithm: got fednova; allowed: fedavg or dit"),
    ({"local.algorithm": "scaffold", "local.optimizer": "sgd"}, r"local.algorithm: got scaffold"),
    ({"privacy.noise_multiplier": 0.0}, r"privacy.epsilon: got 0.0; allowed: above 0 where"),
    ({"privacy.mechanism": "matrix", "privacy.quantile": 0.5}, r"privacy.quantile: got 0.5; allowed: 0 with"),
    ({"privacy.mechanism": "matrix", "cohort": 2}, r"participation.name: got cohort; allowed: full or cyclic"),
    ({"cohort": 2, "privacy.accountant": "pld"}, r"privacy.accountant: got pld; allowed: rdp with cohorts"),
    ({"privacy.quantile": 0.5, "privacy.quantile_noise": 1.0}, r"privacy.quantile_noise: got 1.0; allowed: above 1,"),
    ({"privacy.mechanism": "dpsgd", "method": "ridge"}, r"method: got .*; allowed: a method that trains, with"),
    ({"participation.name": "cyclic"}, r"cohort: got 0; allowed: 1 or more with participation.name=cyclic"),
    ({"privacy.mechanism": "distributed"}, r"aggregation.name: got uniform; allowed: secure_uniform with"),
    (ALL | {"secure.dropout": 0.1}, r"secure.dropout: got 0.1; allowed: 0.0 with privacy.mechanism=distributed"),
    (ALL | {"participation.name": "poisson", "cohort": 3}, r"participation.name: got poisson; allowed: full or cohort"),
    (ALL | {"secure.bits": 8, "privacy.epsilon": 5.0}, r"secure.bits: got 8; allowed: so many that 4 rounds of 3"),
    (ALL, r"method: got updates of \d+ numbers; allowed: 1024 to 1048576 with"),
])  # fmt: skip
def test_what_would_void_the_guarantee_is_refused(bank, tmp_path, changes, told):
    with pytest.raises(UsageError, match=told):
        train_and_evaluate(config_for(bank, **KNOWN | changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_without_its_package_privacy_is_refused(bank, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"privacy.mechanism: got gaussian \(no package dp-accounting\)"):
        train_and_evaluate(config_for(bank, **KNOWN), tmp_path / "run")


def test_cohorts_in_turn_have_every_client_once_in_so_many_rounds():
    from cachefl_jax.federation.participation import cyclic

    drawn = [cyclic.turn(np.int32(number), 7, 3) for number in range(6)]
    members = [each.clients[: int(each.size)].tolist() for each in drawn]
    assert members[:3] == [[0, 1, 2], [3, 4, 5], [6]]
    assert members[3:] == members[:3]
