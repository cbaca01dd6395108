"""A method in a user's own file: it trains, goes on where it was stopped, is evaluated and swept as ours are."""

import json
import pathlib

import numpy as np
import pytest
from safetensors import safe_open

from cachefl_jax.commands.evaluate import evaluate, stored_config
from cachefl_jax.config import default, resolve
from cachefl_jax.data import load_bank
from cachefl_jax.errors import UsageError
from cachefl_jax.simulation.sweep_groups import kinds_of
from cachefl_jax.simulation.sweep_points import prepared_points, run_points
from cachefl_jax.simulation.train import train_and_evaluate

pytestmark = pytest.mark.quick
FILE = pathlib.Path(__file__).parent / "linear_probe.py"
ALONE = (f"{FILE}:probe",)


@pytest.fixture
def config_of(make_bank):
    """Fields by dotted name -> the config of a probe that four clients train."""

    def make(**fields):
        config = default()
        config.data.name, config.data.path, config.method = "feature_bank", str(make_bank()), f"{FILE}:probe"
        config.partition.clients, config.cache.keys_per_class, config.rounds, config.eval_every = 4, 2, 4, 2
        config.engine.devices, config.local.learning_rate = 1, 0.01
        config.unlock()
        config.update_from_flattened_dict({name: value for name, value in fields.items() if name != "probe.scale"})
        if "probe.scale" in fields:
            config.probe = {"scale": fields["probe.scale"]}
        return config

    return make


def read_model(folder: pathlib.Path) -> tuple[dict, dict]:
    """(arrays, metadata) of the artefact that a run has left."""
    with safe_open(folder / "model.safetensors", "numpy") as file:
        metadata = {name: json.loads(value) for name, value in file.metadata().items()}
        return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118


def test_it_is_a_page():
    assert len(FILE.read_text().splitlines()) <= 60


def test_its_artefact_alone_gives_the_accuracy_that_the_run_reports(config_of, tmp_path):
    config = config_of(**{"probe.scale": 7.0})
    summary = train_and_evaluate(config, tmp_path / "run")
    entry = summary["methods"][summary["method"]]
    assert (summary["method"], entry["label"]) == ("probe", "linear probe")
    assert list(summary["methods"]) == ["zero_shot", "cache_init", "probe", "local_only", "centralized"]
    assert summary["methods"]["cache_init"]["label"] == "linear probe at round 0"
    arrays, metadata = read_model(tmp_path / "run")
    bank = load_bank(pathlib.Path(config.data.path))
    told = {"method": f"{FILE}:probe", "scale": 7.0, "probe.scale": 7.0, "class_names": list(bank.class_names)}
    assert {name: metadata[name] for name in told} == told
    logits = metadata["scale"] * bank.test.features @ arrays["weight"].T + arrays["bias"]
    assert entry["test_accuracy"] == (logits.argmax(axis=1) == bank.test.labels).mean() > 0.5
    assert entry["uplink_bytes_per_client_round"] == sum(array.nbytes for array in arrays.values())
    assert not (tmp_path / "run" / "cache.safetensors").exists()
    assert (tmp_path / "run" / "cache_init.safetensors").is_file()


def test_it_goes_on_to_more_rounds_as_if_it_had_never_stopped(config_of, tmp_path):
    fields = {"local.momentum": 0.9, "local.optimizer": "sgd", "server.optimizer": "adam", "compare": ALONE}
    train_and_evaluate(config_of(**fields), tmp_path / "whole")
    train_and_evaluate(config_of(rounds=2, **fields), tmp_path / "cut")
    train_and_evaluate(config_of(**fields), tmp_path / "cut")
    whole, cut = (read_model(tmp_path / name)[0] for name in ("whole", "cut"))
    start = read_model_at_round_0(tmp_path / "whole")
    assert np.abs(whole["weight"] - start).max() > 1e-3
    for name, array in whole.items():
        np.testing.assert_array_equal(array, cut[name])


def read_model_at_round_0(folder: pathlib.Path) -> np.ndarray:
    """The weight before round 1: the mean of each class's keys."""
    with safe_open(folder / "cache_init.safetensors", "numpy") as file:
        return file.get_tensor("keys").mean(axis=1)


def test_a_checkpoint_is_evaluated_from_the_runs_own_config(config_of, tmp_path):
    summary = train_and_evaluate(config_of(**{"probe.scale": 7.0, "compare": ALONE}), tmp_path / "run")
    config = stored_config(["evaluate", f"--workdir={tmp_path / 'run'}"])
    assert config.probe.scale == 7.0
    entry = summary["methods"]["probe"]
    expected = {"round": 4, **{name: entry[name] for name in ("test_accuracy", "validation_accuracy")}}
    assert evaluate(config, tmp_path / "run", None).items() >= expected.items()


def test_a_sweep_over_its_traced_field_is_one_program_and_ends_where_runs_do(config_of, tmp_path):
    scales = [1.0, 30.0]
    configs = [config_of(**{"probe.scale": scale, "engine.strategy": "scan", "compare": ALONE}) for scale in scales]
    points = [resolve(config) for config in configs]
    assert len(kinds_of(prepared_points(points, range(2)))) == 1
    lines = run_points(points, [{"probe.scale": scale} for scale in scales], tmp_path / "sweep", [], False)
    for line, scale, own in zip(lines, scales, configs, strict=True):
        entry = train_and_evaluate(own, tmp_path / f"run{scale}")["methods"]["probe"]
        for name in ("test_accuracy", "validation_accuracy", "client_flops_per_round", "total_bytes"):
            assert line["methods"]["probe"][name] == entry[name]


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ('("images",)', "method: got reader, which reads images; allowed: .* bank has no images"),
        ('("feature",)', "method: got .*reader, whose inputs have 'feature'; allowed: inputs out of features, text_"),
        ('"features"', "method: got .*reader, whose inputs have 'f'"),
    ],
)
def test_a_method_that_reads_what_is_not_there_is_refused(config_of, tmp_path, inputs, told):
    (tmp_path / "reader.py").write_text(
        "from cachefl_jax.methods import Method\n"
        "from cachefl_jax.methods.method import nothing\n"
        f'reader = Method("reader", nothing, lambda params, frozen, rows: rows.images, inputs={inputs})\n'
    )
    config = config_of(method=f"{tmp_path / 'reader.py'}:reader")
    with pytest.raises(UsageError, match=told):
        train_and_evaluate(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


LINEAR = """
from cachefl_jax.methods import Method

def logits_of_scores(scores, frozen, rows):
    return 20 * scores

def logits(params, frozen, rows):
    return logits_of_scores(rows.features @ params.T, frozen, rows)

linear = Method("linear", lambda server, config: server.synthetic.mean(axis=1), logits, linear=logits_of_scores)
other = linear._replace(linear=lambda scores, frozen, rows: 19 * scores)
several = linear._replace(init=lambda server, config: [linear.init(server, config)] * 2, logits=lambda *_: None)
"""


def test_a_linear_view_trains_on_coefficients_to_where_the_params_themselves_go(config_of, tmp_path):
    (tmp_path / "linear.py").write_text(LINEAR)
    ends = []
    for strategy in ("scan", "dual"):
        name = f"{tmp_path / 'linear.py'}:linear"
        fields = {"local.optimizer": "sgd", "engine.strategy": strategy, "method": name, "compare": (name,)}
        train_and_evaluate(config_of(**fields), tmp_path / strategy)
        ends.append(read_model(tmp_path / strategy)[0]["params"])
    with safe_open(tmp_path / "scan" / "cache_init.safetensors", "numpy") as file:
        start = file.get_tensor("keys").mean(axis=1)
    assert np.abs(ends[0] - start).max() > 1e-3
    np.testing.assert_allclose(ends[1], ends[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "told"),
    [("other", "whose linear view gives other logits"), ("several", "whose params are 2 arrays")],
)
def test_a_linear_view_that_is_none_is_refused(config_of, tmp_path, name, told):
    """It would train by one formula and be evaluated by another."""
    (tmp_path / "linear.py").write_text(LINEAR)
    with pytest.raises(UsageError, match=f"method: got .*{name}, {told}"):
        train_and_evaluate(config_of(method=f"{tmp_path / 'linear.py'}:{name}"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
