"""Features that every site sends once: what the server trains on, what that comes to, and what it costs."""

import json

import jax
import numpy as np
import pytest
from plain_local_only import plain_training

from cachefl_jax.config import METHOD_NAMES, default, rows_of
from cachefl_jax.errors import UsageError
from cachefl_jax.federation import Clients
from cachefl_jax.methods import Rows
from cachefl_jax.report import page
from cachefl_jax.report.workdir import read_runs
from cachefl_jax.simulation.build import build
from cachefl_jax.simulation.contenders import check_regimes
from cachefl_jax.simulation.parts import local_training
from cachefl_jax.simulation.prepare import prepare
from cachefl_jax.simulation.simulate import simulate
from cachefl_jax.simulation.train import train_and_evaluate

pytestmark = pytest.mark.quick


def config_for(bank, **changes):
    config = default()
    config.data.name, config.data.path, config.partition.clients = "feature_bank", str(bank), 4
    config.cache.keys_per_class, config.rounds, config.local.learning_rate = 2, 3, 0.3
    config.compare, config.engine.devices = ("cachefl", "centralized", "features_once"), 1
    config.update_from_flattened_dict(changes)
    return config


def plainly(config) -> dict:
    """The figures of training on what the sites have sent, by the plain loop on rows that are written out here."""
    inputs = prepare(config)
    learner, bank, dtype = build(config, inputs), inputs.bank, config.features_once.dtype
    features, labels = bank.train.features.astype(dtype).astype(np.float32), bank.train.labels
    if config.features_once.server_rows:
        keys = [bank.synthetic.features[bank.synthetic.labels == label][:2] for label in range(bank.classes)]
        features = np.concatenate([features, *keys])
        labels = np.concatenate([labels, np.repeat(np.arange(bank.classes), 2)]).astype(np.int32)
    rows = len(labels)
    everybody = Clients(np.asarray([0, rows], np.int32), np.arange(rows, dtype=np.int32))
    problem = learner.problem._replace(clients=everybody, data=Rows(labels, features))
    train = plain_training(local_training(config, learner.method, rows), problem)
    return learner.score(train(learner.params, 0, config.rounds))


@pytest.mark.parametrize("changes", [{}, {"features_once.server_rows": False}, {"features_once.dtype": "float16"}])
def test_the_server_trains_on_all_that_was_sent_and_on_its_own_rows(make_bank, changes):
    config = config_for(make_bank(text_features=None), **changes)
    methods = simulate(config, None).summary["methods"]
    found, expected = methods["features_once"], plainly(config)
    for name in ("test_accuracy", "validation_accuracy", "test_cross_entropy"):
        assert found[name] == pytest.approx(expected[name], rel=1e-5)
    assert found["clients"] == pytest.approx(expected["clients"], abs=1e-6)
    same = found["test_cross_entropy"] == pytest.approx(methods["centralized"]["test_cross_entropy"], rel=1e-6)
    assert same == (changes == {"features_once.server_rows": False})


def test_its_bytes_are_a_feature_and_a_label_of_every_row_once_and_the_model_once(make_bank):
    config = config_for(make_bank(), **{"features_once.dtype": "float16", "compare": ("features_once",)})
    inputs = prepare(config)
    rows, width, classes = len(inputs.bank.train.labels), inputs.bank.width, inputs.bank.classes
    entry = simulate(config, None).summary["methods"]["features_once"]
    up, down = rows * (2 * width + 1), 4 * classes * 2 * width
    assert entry["uplink_bytes_per_client_round"] == up / 4
    assert entry["downlink_bytes_per_client_round"] == down
    assert entry["total_bytes"] == up + 4 * down
    assert entry["client_flops_per_round"] == 0
    assert (entry["regime"], entry["rounds"]) == ("features_once", 3)


def test_a_report_says_what_leaves_a_site(make_bank, tmp_path):
    config = config_for(make_bank(), compare=("cachefl", "cachefl@features_once"))
    train_and_evaluate(config, tmp_path / "run")
    entry = json.loads((tmp_path / "run" / "summary.json").read_text())["methods"]["cachefl@features_once"]
    assert entry["label"] == "CacheFL, features sent once"
    text = page.render(read_runs([tmp_path / "run"]))
    assert entry["privacy"] in text
    assert "the features and labels of every site leave it" in entry["privacy"]


def test_views_in_turn_are_all_sent(make_pictures, config_for_images, tmp_path):
    root = make_pictures(tmp_path / "pictures", {"red square": 12, "green disc": 12})
    views = {"clip.train_views": 2, "compare": ("features_once",), "data.validation_share": 0.0}
    config = config_for_images(root, **views)
    config.methods = METHOD_NAMES  # at their default compare counts
    inputs = prepare(config)
    entry = simulate(config, None).summary["methods"]["features_once"]
    rows, width = len(inputs.bank.train.labels), inputs.bank.width
    assert entry["uplink_bytes_per_client_round"] == rows * (2 * 4 * width + 1) / 3
    assert entry["test_accuracy"] is not None


def test_a_method_that_reads_images_cannot_be_trained_so(make_bank):
    config = config_for(make_bank())
    learner = build(config, prepare(config))
    check_regimes(rows_of(config), learner)
    images = learner._replace(method=learner.method._replace(inputs=("images",)))
    with pytest.raises(UsageError, match="got features_once; allowed: a method that reads features and no images"):
        check_regimes(rows_of(config), images)


def test_server_rows_do_not_change_what_the_other_rows_are(make_bank):
    changes = {"features_once.server_rows": False}
    entries = [simulate(config_for(make_bank(), **more), None).summary["methods"] for more in ({}, changes)]
    untimed = [jax.tree.map(str, {**each["centralized"], "seconds_per_round": 0}) for each in entries]
    assert untimed[0] == untimed[1]
