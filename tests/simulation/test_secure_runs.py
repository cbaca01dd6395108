"""Runs with a secure sum: from the config to the summary, resumed, swept and replayed with the protocol."""

import json

import jax
import numpy as np
import pytest

from cachefl_jax import simulate
from cachefl_jax.config import default, resolve
from cachefl_jax.errors import UsageError
from cachefl_jax.privacy.secure.graph import Settings
from cachefl_jax.privacy.secure.messages import MESSAGES, overhead
from cachefl_jax.simulation.secure_replay import replay_round


@pytest.fixture
def config(make_bank):
    """Three rounds at six clients, four a round, on a bank of four classes."""
    config = default()
    config.data.name, config.data.path, config.data.validation_share = "feature_bank", str(make_bank()), 0.0
    config.partition.clients, config.cache.keys_per_class, config.rounds, config.cohort = 6, 2, 3, 4
    config.methods, config.eval_every, config.engine.devices = ("cachefl",), 3, 1
    config.engine.strategy, config.checkpoint_every = "scan", 1
    return config


def secured(config, **more):
    config.aggregation.name = "secure_mean"
    config.secure.update(more)
    return config


@pytest.mark.quick
def test_a_run_is_the_plain_one_up_to_the_step_and_says_what_it_sent(config):
    plain = simulate(config, None)
    secure = simulate(secured(config), None)
    assert np.abs(plain.params.keys - secure.params.keys).max() < 3 * 4 / 2**22 + 1e-5
    up, down = overhead(4, Settings())
    before, after = (run.summary["methods"]["cachefl"] for run in (plain, secure))
    numbers = before["uplink_bytes_per_client_round"] // 4
    assert after["uplink_bytes_per_client_round"] == numbers * 3 + up
    assert after["downlink_bytes_per_client_round"] == numbers * 4 + down
    assert after["secure_sum"] == {"clipped": 0, "dropped": 0, "failed": 0}
    assert "secure_sum" not in before


def test_a_run_that_loses_clients_goes_on_to_the_same_bits_and_is_replayed(config, tmp_path):
    secured(config, dropout=0.25, threshold=0.5, clip=0.001)
    whole = simulate(config, tmp_path / "whole")
    told = whole.summary["methods"]["cachefl"]["secure_sum"]
    assert told["dropped"] > 0
    assert told["clipped"] > 0
    assert any("secure.clip" in note for note in whole.summary["notes"])
    with config.unlocked():
        config.rounds = 2
    simulate(config, tmp_path / "cut")
    config.rounds = 3
    resumed = simulate(config, tmp_path / "cut")
    np.testing.assert_array_equal(resumed.params.keys, whole.params.keys)
    assert resumed.summary["methods"]["cachefl"]["secure_sum"] == told
    for number in (1, 3, None):
        found = replay_round(tmp_path / "whole", number)
        assert found["round"] == (number or 4)
        assert found["clients"] == 4
        if found["recovered"]:
            assert found["equals_plain_sum"]
            assert found["equals_round"]
            assert tuple(found["bytes"]) == MESSAGES
        else:
            assert found["round_unchanged"]
    json.dumps(found)


def test_a_replay_refuses_what_it_cannot_run(config, tmp_path):
    with pytest.raises(UsageError, match=r"--workdir: got .*no config\.json"):
        replay_round(tmp_path)
    with config.unlocked():
        config.rounds = 0
    simulate(config, tmp_path / "plain")
    with pytest.raises(UsageError, match=r"aggregation\.name: got mean.*secure_mean"):
        replay_round(tmp_path / "plain")


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"secure.bits": 7}, r"secure\.bits: got 7"),
        ({"secure.bits": 25}, r"secure\.bits: got 25"),
        ({"secure.clip": 0.0}, r"secure\.clip: got 0\.0"),
        ({"secure.neighbours": 3}, r"secure\.neighbours: got 3.*even"),
        ({"secure.threshold": 0.4}, r"secure\.threshold: got 0\.4"),
        ({"secure.dropout": 1.0}, r"secure\.dropout: got 1\.0"),
        ({"cohort": 2}, r"cohort: got 2.*3 or more"),
        ({"secure.bits": 8, "partition.clients": 65, "cohort": 0}, r"secure\.bits: got 8.*65 clients"),
        ({"local.algorithm": "scaffold", "local.optimizer": "sgd"}, r"local\.algorithm: got scaffold"),
        ({"local.algorithm": "fednova", "local.optimizer": "sgd"}, r"local\.algorithm: got fednova"),
        ({"engine.strategy": "dual", "local.optimizer": "sgd"}, r"engine\.strategy: got dual"),
    ],
)
def test_bad_values_are_refused_in_one_line(config, changes, line):
    secured(config).update_from_flattened_dict(changes)
    with pytest.raises(UsageError, match=line) as refused:
        resolve(config)
    assert "\n" not in str(refused.value)


def test_a_transform_that_saves_bytes_is_refused(config, tmp_path):
    file = tmp_path / "half.py"
    file.write_text(
        "from cachefl_jax.federation import stateless\n"
        "half = stateless(lambda update, sender: update, size=lambda size: size / 2)\n"
    )
    secured(config).updates.transforms = (f"{file}:half",)
    with pytest.raises(UsageError, match=r"updates\.transforms: got .*half"):
        simulate(config, None)


def test_equal_settings_are_one_program(config):
    """The parts are the same objects, so that a sweep's points share what they compile."""
    from cachefl_jax.privacy.secure.sums import secured as parts

    assert all(one is other for one, other in zip(parts(secured(config)), parts(secured(config)), strict=True))
    assert jax.tree.structure(parts(config)) == jax.tree.structure(parts(config))
