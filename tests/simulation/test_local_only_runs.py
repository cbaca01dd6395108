"""`local_only` and `centralized`: the plain loop's accuracies, in few calls, and what a kill leaves."""

import json
import shlex

import numpy as np
import pytest
from plain_local_only import plain_training

from cachefl_jax.config import default
from cachefl_jax.config.rows import row_of
from cachefl_jax.federation import Clients, repeat_views
from cachefl_jax.simulation import local_only
from cachefl_jax.simulation.build import build
from cachefl_jax.simulation.engine import start_engine
from cachefl_jax.simulation.parts import local_training
from cachefl_jax.simulation.prepare import partition_arrays, prepare
from cachefl_jax.simulation.regimes import Run, reference
from cachefl_jax.simulation.train import train_and_evaluate
from cachefl_jax.simulation.workdir import Workdir
from cachefl_jax.storage.archive import read_arrays

pytestmark = pytest.mark.quick


def config_for(bank, **changes):
    config = default()
    config.data.name, config.data.path = "feature_bank", str(bank)
    config.partition.clients, config.partition.concentration = 5, 0.5
    config.cache.keys_per_class, config.rounds, config.local.learning_rate = 2, 4, 0.3
    config.methods, config.engine.devices, config.engine.strategy = ("local_only", "centralized"), 1, "scan"
    config.update_from_flattened_dict(changes)
    return config


def accuracies_of(scores: dict) -> list[float]:
    return [scores["test_accuracy"], scores["validation_accuracy"]]


@pytest.fixture(scope="module")
def expected(tmp_path_factory, make_bank_in):
    """(bank, the figures of each client, those of all rows in one place), by the plain loop."""
    bank = make_bank_in(tmp_path_factory.mktemp("bank"), text_features=None)  # the keys decide
    config = config_for(bank)
    inputs = prepare(config)
    learner = build(config, inputs)
    train = plain_training(learner.local, learner.problem)
    each = [learner.score(train(learner.params, client, config.rounds)) for client in range(5)]
    rows = len(inputs.bank.train.labels)
    everybody = Clients(np.asarray([0, rows], np.int32), np.arange(rows, dtype=np.int32))
    train = plain_training(local_training(config, learner.method, rows), learner.problem._replace(clients=everybody))
    whole = learner.score(train(learner.params, 0, config.rounds))
    assert len({tuple(accuracies_of(one)) for one in (*each, whole)}) > 3
    return bank, each, whole


@pytest.mark.parametrize(("lanes", "devices", "beside_an_engine"), [(1, 1, False), (2, 2, True)])
def test_they_are_the_plain_loops_wherever_the_data_lie(
    expected, tmp_path, monkeypatch, lanes, devices, beside_an_engine
):
    monkeypatch.setattr(local_only, "LANES", {"cpu": lanes})
    bank, each, whole = expected
    config = config_for(bank, **{"engine.devices": devices})
    inputs = prepare(config)
    learner, workdir = build(config, inputs, ordered=True), Workdir(tmp_path)  # `expected` has the bank's own order
    engine = start_engine(config, learner, workdir.engine) if beside_an_engine else None
    alone, together = (
        reference(Run(config, inputs, workdir), learner, row_of("cachefl", name), engine) for name in config.methods
    )
    test, validation = np.transpose([accuracies_of(one) for one in each])
    assert accuracies_of(alone) == [test.mean(), validation.mean()]
    assert [alone["test_accuracy_min"], alone["test_accuracy_max"]] == [test.min(), test.max()]
    for name in ("test_balanced_accuracy", "test_ece", "test_cross_entropy", "test_class_accuracy"):
        np.testing.assert_allclose(alone[name], np.mean([one[name] for one in each], axis=0), rtol=1e-5)
        np.testing.assert_allclose(together[name], whole[name], rtol=1e-5)
    shares = partition_arrays(inputs)["class_counts"] / inputs.partition.sizes[:, None]
    own = (shares * [one["test_class_accuracy"] for one in each]).sum(axis=1)
    assert alone["clients"] == pytest.approx({"mean": own.mean(), "worst_tenth": own.min(), "std": own.std()})
    assert accuracies_of(together) == accuracies_of(whole)
    assert together["clients"] == pytest.approx(whole["clients"])


def test_views_take_turns_in_both(expected, tmp_path):
    config = config_for(expected[0], rounds=3, **{"clip.train_views": 2})
    inputs = prepare(config)
    features = inputs.bank.train.features
    bank = inputs.bank._replace(train_views=np.stack([features, np.roll(features, 1, axis=1)]))
    inputs, rows = inputs._replace(bank=bank), len(features)
    plain, run = build(config, inputs), Run(config, inputs, Workdir(tmp_path))
    train = plain_training(plain.local, plain.problem)
    each = [plain.score(train(plain.params, client, 3))["test_accuracy"] for client in range(5)]
    whole = Clients(np.asarray([0, rows], np.int32), np.arange(rows, dtype=np.int32))
    problem = plain.problem._replace(clients=repeat_views(whole, 2))
    train = plain_training(local_training(config, plain.method, rows), problem)
    ordered = build(config, inputs, ordered=True)
    alone, together = (
        reference(run, ordered, row_of("cachefl", name), None)["test_accuracy"] for name in config.methods
    )
    assert alone == np.mean(each)
    assert together == plain.score(train(plain.params, 0, 3))["test_accuracy"]
    assert together != expected[2]["test_accuracy"]


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """Of every call that trains, but for those that warm up: (clients, rounds). After `stop_at` of them, the next is an
    interruption; `file` is what was saved until then."""

    class Calls(list):
        stop_at = file = None

    calls, real = Calls(), local_only.make_local_only

    def make(*arguments):
        train, warm = real(*arguments), []

        def counted(params, clients, first, count, problem):
            if warm and calls.stop_at == len(calls):
                file = tmp_path / "twice" / "local_only.npz"
                calls.file = file.read_bytes() if file.is_file() else None
                raise KeyboardInterrupt
            if warm:
                calls.append((len(clients), int(count)))
            warm.append(True)
            return train(params, clients, first, count, problem)

        return counted

    monkeypatch.setattr(local_only, "make_local_only", make)
    return calls


def test_hundreds_of_clients_and_rounds_are_a_handful_of_calls(make_bank, tmp_path, calls):
    rng = np.random.default_rng(0)
    many = {"train_features": rng.normal(size=(600, 8)), "train_labels": np.arange(600) % 4}
    config = config_for(make_bank(**many), rounds=50, methods=("local_only",), **{"partition.clients": 300})
    config.partition.name = "iid"
    train_and_evaluate(config, tmp_path / "run")
    assert sum(clients * rounds for clients, rounds in calls) == 300 * 50
    assert len(calls) < 30


def test_a_part_holds_no_more_params_or_work_than_it_may(make_bank, tmp_path, calls, monkeypatch):
    payload = 4 * 2 * 8 * 4
    monkeypatch.setattr(local_only, "PARAMS_BYTES", 3 * payload)
    config = config_for(make_bank(), methods=("local_only",))
    train_and_evaluate(config, tmp_path / "bytes")
    assert {clients for clients, _ in calls} == {3}
    calls.clear()
    monkeypatch.setattr(local_only, "PART_FLOPS", 1)
    train_and_evaluate(config, tmp_path / "work")
    assert {clients for clients, _ in calls} == {1}


@pytest.mark.parametrize(("left", "seconds_a_save"), [("by SIGKILL", 0.0), ("by a signal", 1e9)])
def test_a_run_that_was_left_goes_on_with_the_other_clients(
    make_bank, tmp_path, calls, monkeypatch, left, seconds_a_save
):
    monkeypatch.setattr(local_only, "PART_FLOPS", 1)  # a client a part
    monkeypatch.setattr(local_only, "SECONDS_A_SAVE", seconds_a_save)
    config = config_for(make_bank(), rounds=1, methods=("local_only",))
    at_once = train_and_evaluate(config, tmp_path / "at_once")
    calls.clear()
    calls.stop_at = 3
    file = tmp_path / "twice" / "local_only.npz"
    with pytest.raises(KeyboardInterrupt):
        train_and_evaluate(config, tmp_path / "twice")
    if left == "by SIGKILL":  # nothing is done after it
        file.write_bytes(calls.file)
    assert (read_arrays("", file, ["right"])["right"][0] >= 0).sum() == 3
    calls.clear()
    calls.stop_at = None
    twice = train_and_evaluate(config, tmp_path / "twice")
    assert len(calls) == 2
    assert not file.exists()
    for summary in (at_once, twice):
        assert summary["methods"]["local_only"].pop("seconds_per_round") > 0
    assert twice == at_once


@pytest.mark.parametrize("damage", ["cut", "other clients", "too many right", "text", "other rounds", "own", "sums"])
def test_a_file_of_finished_clients_that_is_damaged_or_of_another_run_is_begun_anew(make_bank, tmp_path, calls, damage):
    config = config_for(make_bank(), rounds=1, methods=("local_only",))
    whole = train_and_evaluate(config, tmp_path / "whole")
    calls.clear()
    file = tmp_path / "run" / "local_only.npz"
    file.parent.mkdir()
    (tmp_path / "run" / "config.json").write_bytes((tmp_path / "whole" / "config.json").read_bytes())
    right = np.full((2, 4 if damage == "other clients" else 5), 999 if damage == "too many right" else 0, np.int32)
    arrays = {"right": right.astype(str) if damage == "text" else right, "figures": np.zeros((3, 5))}
    arrays |= {"own": np.full(5, 2.0 if damage == "own" else 0.5), "class_right": np.zeros(4, np.int64)}
    arrays["class_right"][0] = damage == "sums"
    np.savez(file, **arrays, seconds=1.0, rounds=2 if damage == "other rounds" else 1)
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:100])
    summary = train_and_evaluate(config, tmp_path / "run")
    assert sum(clients for clients, _ in calls) == 5
    assert summary["methods"]["local_only"]["test_accuracy"] == whole["methods"]["local_only"]["test_accuracy"]


def test_the_time_to_come_is_said_once_where_it_is_long_with_what_leaves_it_out(
    make_bank, tmp_path, monkeypatch, capsys
):
    config = config_for(make_bank(), rounds=2, methods=("zero_shot", "local_only"))
    train_and_evaluate(config, tmp_path / "short")
    assert "local_only" not in capsys.readouterr().err
    monkeypatch.setattr(local_only, "LONG", 0.0)
    monkeypatch.setattr(local_only, "ENOUGH", 0.0)
    monkeypatch.setattr(local_only, "PART_FLOPS", 1)
    train_and_evaluate(config, tmp_path / "long")
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "local_only" in line]
    assert line.startswith("local_only: about ")
    assert "for 5 clients" in line
    assert shlex.split(line)[-1] == "--config.methods=('zero_shot',)"


def test_no_rounds_leave_every_client_the_cache_that_it_was_sent(make_bank, tmp_path):
    config = config_for(make_bank(), rounds=0, methods=("cache_init", "local_only", "centralized"))
    methods = train_and_evaluate(config, tmp_path / "run")["methods"]
    assert len({json.dumps(method["test_accuracy"]) for method in methods.values()}) == 1
