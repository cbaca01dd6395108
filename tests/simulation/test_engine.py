"""The plan of a run: every strategy by its name, what fits, what is measured, and that a choice stays."""

import itertools
import json
import time
import weakref

import numpy as np
import pytest
from safetensors.numpy import load_file

from cachefl_jax.config import default
from cachefl_jax.config.engine import STRATEGIES
from cachefl_jax.errors import UsageError
from cachefl_jax.federation import plan as plans
from cachefl_jax.simulation import engine, filling
from cachefl_jax.simulation.plans import describe
from cachefl_jax.simulation.train import rehearse, train_and_evaluate


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


def measure_all(monkeypatch) -> None:
    """Every run is long enough to measure, and all that it can."""
    monkeypatch.setattr(engine, "WORTH_MEASURING", 0.0)
    monkeypatch.setattr(engine, "SHARE", 1e9)


def keys_of(folder) -> np.ndarray:
    return load_file(folder / "cache.safetensors")["keys"]


@pytest.fixture(autouse=True)
def nothing_told_yet():
    engine.tell.cache_clear()


def plan_of(folder) -> dict:
    return json.loads((folder / "engine.json").read_text())["plan"]


@pytest.mark.quick
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_every_strategy_gives_the_same_keys(make_config, tmp_path, momentum):
    for name in STRATEGIES:
        one = {
            "engine.strategy": name,
            "engine.devices": 1,
        }  # four, compiled for longer, change nothing: test_invariance
        config = make_config(**one, **{"local.momentum": momentum, "local.epochs": 2})
        train_and_evaluate(config, tmp_path / name)
        assert plan_of(tmp_path / name)["strategy"] == name
        assert np.abs(keys_of(tmp_path / name) - keys_of(tmp_path / "scan")).max() < 1e-5
    start = load_file(tmp_path / "scan" / "cache_init.safetensors")["keys"]
    assert np.abs(keys_of(tmp_path / "scan") - start).max() > 1e-3


@pytest.mark.quick
def test_a_short_run_measures_nothing_and_takes_what_experience_says(make_config, tmp_path, capsys):
    for name in ("run", "same"):
        train_and_evaluate(make_config(), tmp_path / name)
    assert plan_of(tmp_path / "run")["strategy"] == "dual"
    told = capsys.readouterr().err
    assert told.count("engine: dual") == 1, "a line of two runs in one process, as of a study's hundreds"
    assert "measured" not in told


@pytest.mark.quick
def test_a_long_run_measures_says_what_it_chose_and_keeps_to_it(make_config, tmp_path, capsys, monkeypatch):
    config = make_config(**{"seed": 5})
    measure_all(monkeypatch)
    seconds = iter([3.0, 2.5, 1.0, 2.0, 4.0, 5.0, 6.0, 7.0])
    monkeypatch.setattr(engine, "seconds_a_round", lambda *_: next(seconds))
    train_and_evaluate(config, tmp_path / "measured")
    record = json.loads((tmp_path / "measured" / "engine.json").read_text())
    assert min(record["seconds_per_round"].values()) == 1.0
    assert list(record["seconds_per_round"]).index(describe(plans.Plan(**record["plan"]))) == 2
    assert "measured: dual" in capsys.readouterr().err
    monkeypatch.setattr(engine, "seconds_a_round", None)  # the same again is not measured again
    train_and_evaluate(config, tmp_path / "again")
    assert plan_of(tmp_path / "again") == record["plan"]
    assert (keys_of(tmp_path / "again") == keys_of(tmp_path / "measured")).all()
    monkeypatch.undo()  # a short run's plan does not depend on what a long one has measured
    train_and_evaluate(config, tmp_path / "short")
    assert plan_of(tmp_path / "short") != record["plan"]


@pytest.mark.quick
@pytest.mark.parametrize("pace", [1e-9, 1e4], ids=["idle", "busy"])
def test_a_short_runs_plan_does_not_depend_on_the_clock(make_config, tmp_path, monkeypatch, pace):
    ticks = itertools.count()
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks) ** 0.5 * pace)  # later rounds seem faster
    train_and_evaluate(make_config(seed=6), tmp_path / "run")
    record = json.loads((tmp_path / "run" / "engine.json").read_text())
    assert record["plan"]["strategy"] == "dual"
    assert record["seconds_per_round"] == {}


@pytest.mark.quick
def test_measuring_keeps_one_plans_arrays_on_the_devices_and_ends_with_its_budget(make_config, tmp_path, monkeypatch):
    seen, asked = [], []

    def seconds(engine, learner, best=np.inf):
        assert all(array() is None for array in seen), "the plan before this one still holds the data"
        seen.append(weakref.ref(engine.problem.data.features))
        asked.append(best)
        return [1.0, 3.0, 2.0][len(seen) - 1]

    measure_all(monkeypatch)
    monkeypatch.setattr(engine, "seconds_a_round", seconds)
    # Of 40 rounds of a second 15% is 6 s: the first takes 2, and so does each of the others, by a clock that stands.
    monkeypatch.setattr(engine, "SHARE", 0.15)
    ticks = iter([0.0, 0.0, 0.0, 0.0, 0.0, 3.0])
    monkeypatch.setattr(engine, "since", lambda began: next(ticks))
    config = make_config(**{"seed": 7, "rounds": 40, "eval_every": 40, "checkpoint_every": 40})
    train_and_evaluate(config, tmp_path / "run")
    assert asked == [np.inf, 1.0, 1.0]
    assert plan_of(tmp_path / "run")["strategy"] == "dual"
    ticks = iter([5.0, 0.0])  # a plan that takes 5 s to compile is beyond the budget
    config.seed, config.cohort = 8, 5
    seen.clear()
    train_and_evaluate(config, tmp_path / "dear")
    assert len(seen) == 1


def test_a_plan_that_is_slower_is_dropped_after_one_round(monkeypatch):
    rounds = []
    slow = filling.Engine(plans.Plan(), lambda *_: (rounds.append(1), None), 1, None, None, {})
    learner = type("Learner", (), {"start": staticmethod(dict)})
    monkeypatch.setattr(engine, "since", lambda began: 2.0)
    assert engine.seconds_a_round(slow, learner, best=1.0) == 2.0
    assert len(rounds) == 1
    assert engine.seconds_a_round(slow, learner, best=1.9) == 2.0
    assert len(rounds) == 3


def test_a_run_of_few_rounds_or_little_work_measures_nothing(make_config, monkeypatch):
    class Learner:
        params, client_rows = {"w": np.zeros((1000, 512))}, np.full(6, 30_000)
        local = plans.LocalTraining(None, None, 1, 32, 30_016)

    for rounds, clients, expected in ((3, 6, False), (30, 6, True), (30, 1, True), (10_000, 6, True)):
        config = make_config(rounds=rounds, cohort=clients)
        assert engine.worth_measuring(config, Learner) == expected, (rounds, clients)
    Learner.client_rows = np.full(6, 30)
    assert not engine.worth_measuring(make_config(rounds=1000), Learner)


@pytest.mark.quick
def test_what_cannot_fit_is_refused_before_anything_is_written_and_auto_takes_what_fits(
    make_config, tmp_path, monkeypatch
):
    needs = {}
    for name in ("scan", "vmap"):
        train_and_evaluate(make_config(**{"engine.strategy": name, "engine.devices": 1}), tmp_path / name)
        needs[name] = sum(json.loads((tmp_path / name / "engine.json").read_text())["bytes"].values())
    assert needs["scan"] < needs["vmap"]
    data = json.loads((tmp_path / "scan" / "engine.json").read_text())["bytes"]["data"]  # which lie on the host already
    monkeypatch.setattr(filling, "free", lambda: (needs["scan"] + needs["vmap"]) // 2 - data)
    with pytest.raises(UsageError, match=r"engine.strategy: got vmap, which needs .* mend: engine.strategy=scan"):
        train_and_evaluate(make_config(**{"engine.strategy": "vmap", "engine.devices": 1}), tmp_path / "refused")
    assert not (tmp_path / "refused").exists()
    config = make_config(**{"engine.devices": 1, "local.optimizer": "adamw"})
    train_and_evaluate(config, tmp_path / "auto")
    assert plan_of(tmp_path / "auto")["strategy"] == "scan"


@pytest.mark.quick
def test_a_choice_that_memory_has_made_is_stored_and_one_that_does_not_fit_any_more_stops_no_new_run(
    make_config, tmp_path, monkeypatch, capsys
):
    def run_where(name: str, large: str) -> str:
        monkeypatch.setattr(filling, "room", lambda problem, plan: 5)
        monkeypatch.setattr(filling, "needed", lambda plan, need: 10 if plan.strategy == large else 1)
        train_and_evaluate(make_config(**{"seed": 9, "cohort": 4}), tmp_path / name)
        return plan_of(tmp_path / name)["strategy"]

    assert run_where("tight", "dual") == "scan"
    assert "equal up to rounding, does not fit" in capsys.readouterr().err
    assert run_where("again", "none") == "scan"
    assert run_where("other", "scan") == "dual"
    assert "engine: dual of" in (told := capsys.readouterr().err)
    assert "scan on 4 devices, equal up to rounding, does not fit" in told


@pytest.mark.quick
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
