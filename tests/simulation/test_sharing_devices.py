"""Whole runs in which devices share keys or rows: evaluated, resumed, and with the figures of one device."""

import json

import jax
import numpy as np
import pytest

from cachefl_jax import simulate
from cachefl_jax.config import default, resolve
from cachefl_jax.errors import UsageError
from cachefl_jax.federation import Plan
from cachefl_jax.simulation import filling, plans
from cachefl_jax.simulation.build import build
from cachefl_jax.simulation.prepare import prepare
from cachefl_jax.simulation.sweep_points import run_points

pytestmark = pytest.mark.quick


@pytest.fixture
def config(make_bank):
    """Two rounds at three clients, on a bank of four classes, on four devices."""
    config = default()
    config.data.name, config.data.path, config.data.validation_share = "feature_bank", str(make_bank()), 0.0
    config.partition.clients, config.cache.keys_per_class, config.rounds = 3, 2, 2
    config.methods, config.engine.devices, config.engine.strategy = ("zero_shot", "cachefl"), 4, "scan"
    return config


def test_a_run_goes_on_and_ends_as_on_one_device(config, tmp_path):
    shared = config.copy_and_resolve_references()
    shared.engine.class_devices = 2
    shared.rounds = 1
    simulate(shared, tmp_path / "run")
    shared.rounds = 2
    found = simulate(shared, tmp_path / "run")
    config.engine.devices = 1
    plain = simulate(config)
    plan = json.loads((tmp_path / "run" / "engine.json").read_text())["plan"]
    assert (plan["devices"], plan["class_devices"]) == (2, 2)
    np.testing.assert_allclose(found.params.keys, plain.params.keys, rtol=0, atol=1e-6)
    names = ("test_accuracy", "train_loss")
    for one, other in zip(found.records, plain.records, strict=True):
        for name in names:
            assert one[name] == (None if other[name] is None else pytest.approx(other[name], abs=1e-6))


def test_rows_may_lie_with_their_clients(config, tmp_path):
    dealt = config.copy_and_resolve_references()
    dealt.engine.rows, dealt.engine.devices = "dealt", 2
    found, plain = simulate(dealt, tmp_path / "run"), simulate(config)
    assert json.loads((tmp_path / "run" / "engine.json").read_text())["plan"]["own_rows"] is True
    np.testing.assert_allclose(found.params.keys, plain.params.keys, rtol=0, atol=1e-6)
    dealt.engine.devices = 1
    with pytest.raises(UsageError, match=r"rows: got dealt; allowed: auto \| copied here.*begun with dealt goes on"):
        simulate(dealt)


def test_a_record_whose_devices_cannot_share_the_classes_is_damaged(config, tmp_path):
    config.engine.class_devices = 2
    simulate(config, tmp_path / "run")
    file = tmp_path / "run" / "engine.json"
    record = json.loads(file.read_text())
    assert plans.stored(file).class_devices == 2
    record["plan"]["classes"] = 7
    file.write_text(json.dumps(record))
    assert plans.stored(file) is None


def test_rows_that_are_dealt_are_no_room_of_their_own(config, monkeypatch):
    """A CPU's devices read copied rows where the host has them already; dealt ones are laid out beside them."""
    config = resolve(config)
    problem = build(config, prepare(config), ordered=True).problem
    monkeypatch.setattr(filling, "free", lambda: 1000)
    assert filling.room(problem, Plan("scan", devices=2)) > 1000
    assert filling.room(problem, Plan("scan", devices=2, own_rows=True)) == 1000


@pytest.mark.parametrize(("memory", "dealt"), [(2**30, False), (1000, True)])
def test_rows_are_dealt_where_copies_would_fill_an_accelerator(config, monkeypatch, memory, dealt):
    config.engine.devices, config.engine.strategy = 2, "auto"
    config = resolve(config)
    learner = build(config, prepare(config), ordered=True)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(plans, "capacity", lambda: memory)
    found = plans.plans_of(config, learner)
    assert {plan.own_rows for plan in found if plan.strategy != "dual"} == {dealt}
    assert not any(plan.own_rows for plan in found if plan.strategy == "dual")


@pytest.mark.parametrize(
    ("fields", "allowed"),
    [
        ({"class_devices": 3, "devices": 0}, "a divisor of the 4 devices: 1 | 2 | 4"),
        ({"class_devices": 3, "devices": 4}, "a divisor of engine.devices, 4"),
        ({"class_devices": 2, "strategy": "dual"}, "1 with engine.strategy=dual"),
    ],
)
def test_devices_that_cannot_share_are_refused(config, fields, allowed):
    config.engine.update(fields)
    config.local.optimizer = "sgd"
    with pytest.raises(UsageError) as refused:
        simulate(config)
    assert refused.value.field == "engine.class_devices"
    assert refused.value.allowed.startswith(allowed)


def test_a_run_is_scored_where_fewer_devices_are_than_trained_it(config, make_bank):
    """As `evaluate` does on another machine, which cannot train on."""
    config.data.path, config.engine.devices, config.engine.class_devices = str(make_bank(classes=8)), 0, 8
    with pytest.raises(UsageError, match=f"a divisor of the {jax.device_count()} devices"):
        simulate(config)
    config = resolve(config)
    learner = build(config, prepare(config))
    on_one = learner.score._replace(sharing=Plan())(learner.params)
    name = "test_cross_entropy"
    assert learner.score(learner.params)[name] == pytest.approx(on_one[name], abs=1e-5)
    assert learner.score.sharing.class_devices == jax.device_count() < 8


def test_a_sweep_shares_no_keys(config, tmp_path):
    """Its points are dealt to the devices instead: a divisor of one device would be an odd thing to ask for."""
    config.engine.class_devices = 2
    with pytest.raises(UsageError, match="allowed: 1 in a sweep"):
        run_points([config], [{}], tmp_path / "sweep", [], side_by_side=False)


def test_classes_that_cannot_be_divided_are_refused(config, make_bank):
    config.data.path = str(make_bank(classes=6))
    config.engine.class_devices = 4
    with pytest.raises(UsageError) as refused:
        simulate(config)
    assert refused.value.allowed == "a divisor of the 6 classes: 1 | 2"
