"""The demo, whole: the very config that `make demo` runs, held to what it promises."""

import json

import numpy as np
import pytest

from cachefl_jax.simulation import train
from experiments.configs import digits

pytestmark = pytest.mark.quick


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("demo") / "run"
    return train.train_and_evaluate(digits.get_config(), workdir), workdir


def test_the_setting_is_the_one_that_is_promised():
    config = digits.get_config()
    partition = config.partition
    assert (config.data.name, partition.name, partition.clients, partition.concentration) == (
        "digits", "dirichlet", 20, 0.1,
    )  # fmt: skip


def test_cachefl_does_its_job_on_real_handwriting(demo):
    accuracy = {name: 100 * method["test_accuracy"] for name, method in demo[0]["methods"].items()}
    assert accuracy["cachefl"] >= accuracy["zero_shot"] + 25
    assert accuracy["cachefl"] > accuracy["cache_init"]
    assert accuracy["cachefl"] > accuracy["local_only"]
    assert accuracy["cachefl"] >= accuracy["centralized"] - 3


def test_the_cache_is_lighter_than_the_model(demo):
    summary = demo[0]
    keys, features = digits.get_config().cache.keys_per_class, summary["dataset"]["features"]
    assert summary["methods"]["cachefl"]["uplink_bytes_per_client_round"] == 10 * keys * features * 4
    assert summary["whole_model"]["bytes"] > 10 * summary["methods"]["cachefl"]["uplink_bytes_per_client_round"]


def test_the_report_shows_drawn_and_real_images(demo):
    with np.load(demo[1] / "images.npz") as images:
        assert images["synthetic"].shape == (10, 8, 32, 32, 3)
        assert images["real"].shape == (10, 8, 8, 8, 3)
    assert "data:image/png" in (demo[1] / "report.html").read_text()


def test_the_data_is_all_the_digits_split_once(demo):
    dataset = demo[0]["dataset"]
    assert dataset["train"] + dataset["validation"] + dataset["test"] == 1797
    lines = [json.loads(line) for line in (demo[1] / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == digits.get_config().rounds + 1
