"""Training that has not stayed finite has no accuracy: it is refused, however late it went wrong."""

import json

import pytest

from cachefl_jax.config import default
from cachefl_jax.errors import UsageError
from cachefl_jax.simulation.sweep_points import run_points
from cachefl_jax.simulation.train import train_and_evaluate

pytestmark = pytest.mark.quick


@pytest.fixture
def one_step(make_bank):
    """(method, rate) -> the config of a single round of one full batch a client: no loss is taken after its step."""

    def make(method: str, rate: float):
        config = default()
        config.data.name, config.data.path = "feature_bank", str(make_bank())
        config.partition.clients, config.rounds, config.methods = 3, 1, (method,)
        config.local.optimizer, config.local.batch_size, config.local.epochs = "sgd", 0, 1
        config.local.learning_rate = rate
        config.cache.keys_per_class, config.engine.devices, config.engine.strategy = 2, 1, "scan"
        return config

    return make


# At the first rate the keys themselves overflow, at the second only their logits do.
@pytest.mark.parametrize("rate", [3e38, 1e20])
@pytest.mark.parametrize(
    ("method", "who"),
    [("cachefl", "round 1"), ("local_only", "client 0 of local_only"), ("centralized", "centralized")],
)
def test_what_the_last_step_has_spoilt_is_refused_and_has_no_accuracy(one_step, tmp_path, method, who, rate):
    with pytest.raises(UsageError, match=rf"local.learning_rate: got .*stays finite \({who}.* did not\)"):
        train_and_evaluate(one_step(method, rate), tmp_path / "run")
    left = {entry.name for entry in (tmp_path / "run").iterdir()}
    assert not left & {"cache.safetensors", "summary.json", "baselines.json", "report.html"}
    assert not list((tmp_path / "run" / "checkpoints").glob("*"))


def test_a_sweeps_points_say_so_and_stop_no_other(one_step, tmp_path):
    changes = [{"local.learning_rate": rate} for rate in (0.01, 3e38, 1e20)]
    configs = [one_step("cachefl", **{"rate": each["local.learning_rate"]}) for each in changes]
    lines = run_points(configs, changes, tmp_path / "sweep", [], side_by_side=False)
    assert [line["diverged"] for line in lines] == [False, True, True]
    assert [line["methods"]["cachefl"]["test_accuracy"] is None for line in lines] == [False, True, True]


def test_a_cache_whose_logits_overflow_untuned_is_refused_and_a_sweep_goes_on(one_step, tmp_path):
    config = one_step("cache_init", 0.01)
    config.cache.alpha, config.cache.beta = 3e38, -1.0
    with pytest.raises(UsageError, match=r"cache.alpha: got 3e\+38; allowed: one at which round 0's logits"):
        train_and_evaluate(config, tmp_path / "run")
    config.methods = ("cachefl",)
    (line,) = run_points([config], [{}], tmp_path / "sweep", [], side_by_side=False)
    assert line["diverged"]
    assert line["methods"]["cache_init"]["test_accuracy"] is None
    assert line["methods"]["zero_shot"]["test_accuracy"] > 0.5
    assert json.loads((tmp_path / "sweep" / "results.jsonl").read_text()) == line
