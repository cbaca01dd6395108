"""Hostile clients as a config names them: what is refused, and a backdoor that is measured."""

import pytest

from cachefl_jax.config import default, resolve
from cachefl_jax.errors import UsageError
from cachefl_jax.simulation.build import build
from cachefl_jax.simulation.prepare import prepare
from cachefl_jax.simulation.simulate import simulate

pytestmark = pytest.mark.quick


@pytest.fixture
def config(make_bank):
    config = default()
    config.data.name, config.data.path = "feature_bank", str(make_bank())
    config.partition.clients, config.partition.name = 5, "iid"
    config.cache.keys_per_class, config.rounds, config.eval_every, config.methods = 2, 20, 20, ("cachefl",)
    config.local.batch_size, config.engine.devices, config.engine.strategy = 4, 1, "scan"
    config.local.learning_rate = 0.03
    return config


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"hostile.kind": "gaussian", "engine.strategy": "dual", "local.optimizer": "sgd"}, "engine.strategy"),
        ({"hostile.kind": "alie", "aggregation.name": "secure_mean"}, "aggregation.name"),
        ({"hostile.kind": "alie", "local.algorithm": "fednova", "local.optimizer": "sgd"}, "local.algorithm"),
        ({"aggregation.name": "krum", "local.algorithm": "fednova", "local.optimizer": "sgd"}, "aggregation.name"),
        ({"hostile.kind": "backdoor", "hostile.target": 4}, "hostile.target"),
        ({"hostile.kind": "scaled", "method": "ridge"}, "hostile.kind"),
        ({"hostile.kind": "backdoor", "hostile.strength": -2.0}, "hostile.strength"),
    ],
)
def test_what_makes_no_sense_is_refused(config, changes, field):
    config.update_from_flattened_dict(changes)

    def built():
        resolved = resolve(config)
        build(resolved, prepare(resolved))

    with pytest.raises(UsageError) as refusal:
        built()
    assert refusal.value.field == field


def test_a_backdoors_success_is_measured_where_there_is_one(config):
    """By so many clients, and with so long a trigger, that it must come in, but for the server's own images."""
    config.hostile.kind, config.hostile.strength, config.hostile.target = "backdoor", 3.0, 1
    config.hostile.share, success = 0.8, {}
    for config.aggregation.name in ("mean", "fl_trust"):
        success[config.aggregation.name] = simulate(config, None).summary["methods"]["cachefl"]["backdoor_success"]
    assert success["mean"] > success["fl_trust"] + 0.3
