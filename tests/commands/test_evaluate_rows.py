"""What a run compares with its own method is evaluated as that is: from the row's own checkpoints and values."""

import json

import pytest

from cachefl_jax.commands.evaluate import evaluate, stored_config
from cachefl_jax.config import default
from cachefl_jax.errors import UsageError
from cachefl_jax.simulation.train import train_and_evaluate

pytestmark = pytest.mark.quick
FIGURES = ("test_accuracy", "validation_accuracy", "test_cross_entropy", "clients")


@pytest.fixture(scope="module")
def run(make_bank_in, tmp_path_factory):
    """The folder of a run of CacheFL with two more methods, of which one has values of its own."""
    config = default()
    config.data.name, config.data.path = "feature_bank", str(make_bank_in(tmp_path_factory.mktemp("bank")))
    config.partition.clients, config.cache.keys_per_class, config.rounds, config.checkpoint_every = 3, 2, 4, 2
    config.compare, config.engine.devices = ("zero_shot", "cachefl", "linear_probe", "cachefl_personal"), 1
    config.overrides = ("linear_probe: local.learning_rate=0.05", "linear_probe: rounds=2")
    folder = tmp_path_factory.mktemp("runs") / "run"
    train_and_evaluate(config, folder)
    return folder


def of(run, method: str, **more):
    """What the command prints of a method."""
    words = ["evaluate", f"--workdir={run}", f"--config.method={method}"]
    config = stored_config(words)
    config.method = method
    return evaluate(config, run, more.get("round_number"))


@pytest.mark.parametrize(("method", "rounds"), [("cachefl", 4), ("linear_probe", 2), ("cachefl_personal", 4)])
def test_a_row_that_was_compared_has_the_figures_of_the_summary(run, method, rounds):
    told = json.loads((run / "summary.json").read_text())["methods"][method]
    found = of(run, method)
    assert found["round"] == rounds
    assert {name: found[name] for name in FIGURES} == {name: told[name] for name in FIGURES}


def test_earlier_rounds_are_those_of_the_row(run):
    lines = (run / "compared" / "cachefl_personal" / "metrics.jsonl").read_text().splitlines()
    assert of(run, "cachefl_personal", round_number=2)["test_accuracy"] == json.loads(lines[2])["test_accuracy"]


def test_a_method_of_which_the_run_has_no_rounds_is_told_in_one_line(run):
    with pytest.raises(UsageError) as told:
        of(run, "cache_channels")
    assert str(told.value).startswith(
        f"method: got cache_channels; allowed: cachefl | linear_probe | cachefl_personal, whose rounds the run in {run}"
    )
