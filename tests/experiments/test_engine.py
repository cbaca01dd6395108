"""The plan of a run: every strategy by its name, what fits, what is measured, and that a choice stays."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from cachefl_jax.config import default
from cachefl_jax.errors import UsageError
from cachefl_jax.federation import plan as plans
from cachefl_jax.rules import STRATEGIES
from experiments import engine
from experiments.train import rehearse, train_and_evaluate


@pytest.fixture
def make_config(make_bank):
    bank = make_bank()

    def make(**changes):
        config = default()
        config.data.name, config.data.path, config.methods = "feature_bank", str(bank), ("cachefl",)
        config.partition.clients, config.partition.concentration = 6, 0.5
        config.cache.keys_per_class, config.rounds, config.checkpoint_every = 2, 4, 2
        config.local.optimizer, config.local.learning_rate = "sgd", 0.05
        config.update_from_flattened_dict(changes)
        return config

    return make


def keys_of(folder) -> np.ndarray:
    return load_file(folder / "cache.safetensors")["keys"]


def plan_of(folder) -> dict:
    return json.loads((folder / "engine.json").read_text())["plan"]


def test_the_configs_names_are_the_engines():
    assert STRATEGIES == plans.STRATEGIES


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_every_strategy_gives_the_same_keys(make_config, tmp_path, momentum):
    for name in STRATEGIES:
        config = make_config(**{"engine.strategy": name, "local.momentum": momentum, "local.epochs": 2})
        train_and_evaluate(config, tmp_path / name)
        assert plan_of(tmp_path / name)["strategy"] == name
        assert np.abs(keys_of(tmp_path / name) - keys_of(tmp_path / "scan")).max() < 1e-5
    start = load_file(tmp_path / "scan" / "cache_init.safetensors")["keys"]
    assert np.abs(keys_of(tmp_path / "scan") - start).max() > 1e-3


def test_a_short_run_measures_nothing_and_takes_what_experience_says(make_config, tmp_path, capsys):
    train_and_evaluate(make_config(), tmp_path / "run")
    assert plan_of(tmp_path / "run")["strategy"] == "dual"
    told = capsys.readouterr().err
    assert "engine: dual" in told
    assert "measured" not in told


def test_a_long_run_measures_says_what_it_chose_and_keeps_to_it(make_config, tmp_path, capsys, monkeypatch):
    config = make_config(**{"seed": 5})
    monkeypatch.setattr(engine, "WORTH_MEASURING", 0.0)
    seconds = iter([3.0, 2.5, 1.0, 2.0, 4.0, 5.0, 6.0, 7.0])
    monkeypatch.setattr(engine, "seconds_a_round", lambda *_: next(seconds))
    train_and_evaluate(config, tmp_path / "measured")
    record = json.loads((tmp_path / "measured" / "engine.json").read_text())
    assert min(record["seconds_per_round"].values()) == 1.0
    assert list(record["seconds_per_round"]).index(engine.describe(plans.Plan(**record["plan"]))) == 2
    assert "measured against the others" in capsys.readouterr().err
    monkeypatch.setattr(engine, "seconds_a_round", None)  # the same again is not measured again
    train_and_evaluate(config, tmp_path / "again")
    assert plan_of(tmp_path / "again") == record["plan"]
    assert (keys_of(tmp_path / "again") == keys_of(tmp_path / "measured")).all()


def test_what_cannot_fit_is_refused_before_anything_is_written_and_auto_takes_what_fits(
    make_config, tmp_path, monkeypatch
):
    needs = {}
    for name in ("scan", "vmap"):
        train_and_evaluate(make_config(**{"engine.strategy": name, "engine.devices": 1}), tmp_path / name)
        needs[name] = sum(json.loads((tmp_path / name / "engine.json").read_text())["bytes"].values())
    assert needs["scan"] < needs["vmap"]
    monkeypatch.setattr(engine, "free", lambda: (needs["scan"] + needs["vmap"]) // 2)
    with pytest.raises(UsageError, match=r"engine.strategy: got vmap, which needs .* mend: engine.strategy=scan"):
        train_and_evaluate(make_config(**{"engine.strategy": "vmap", "engine.devices": 1}), tmp_path / "refused")
    assert not (tmp_path / "refused").exists()
    config = make_config(**{"engine.devices": 1, "local.optimizer": "adamw"})
    train_and_evaluate(config, tmp_path / "auto")
    assert plan_of(tmp_path / "auto")["strategy"] == "scan"


def test_a_dry_run_tells_the_bytes_of_every_plan(make_config, capsys):
    rehearse(make_config(**{"engine.devices": 2}))
    table = capsys.readouterr().out
    for word in ("dual", "scan", "chunk", "gram", "optimizer_state", "temporaries", "free"):
        assert word in table


def test_rounds_between_two_acts_of_the_host_are_one_call_and_change_nothing(make_config, tmp_path):
    often, seldom = (make_config(**{"rounds": 7, "eval_every": every, "cohort": 3}) for every in (1, 4))
    for name, config in (("often", often), ("seldom", seldom)):
        config.checkpoint_every = 5
        train_and_evaluate(config, tmp_path / name)
    assert (keys_of(tmp_path / "often") == keys_of(tmp_path / "seldom")).all()
    lines = [json.loads(line) for line in (tmp_path / "seldom" / "metrics.jsonl").read_text().splitlines()]
    assert [line["round"] for line in lines if line["test_accuracy"] is not None] == [0, 4, 7]
    losses = [
        [json.loads(line)["train_loss"] for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("often", "seldom")
    ]
    assert losses[0] == losses[1]
