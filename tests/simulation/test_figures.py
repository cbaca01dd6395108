"""The figures of a run beside its accuracy: the same in summary.json, metrics.jsonl, a sweep's lines and `evaluate`."""

import json

import numpy as np
import pytest

from cachefl_jax.commands.evaluate import evaluate
from cachefl_jax.config import default
from cachefl_jax.simulation.sweep_points import run_points
from cachefl_jax.simulation.train import train_and_evaluate
from cachefl_jax.storage.run_files import DRIFT, SCALARS, UNSCORED

pytestmark = pytest.mark.quick
METHODS = ("zero_shot", "cache_init", "cachefl", "local_only", "centralized")


def config_for(bank, **changes):
    config = default()
    config.data.name, config.data.path = "feature_bank", str(bank)
    config.partition.clients, config.partition.concentration = 5, 0.5
    config.cache.keys_per_class, config.rounds, config.local.learning_rate = 2, 4, 0.3
    config.engine.devices, config.engine.strategy, config.eval_every = 1, "scan", 2
    config.methods = METHODS
    config.update_from_flattened_dict(changes)
    return config


@pytest.fixture(scope="module", params=["reweighted", "dealt"])
def run(request, make_bank_in, tmp_path_factory):
    """(config, folder, its summary)"""
    folder = tmp_path_factory.mktemp(request.param)
    config = config_for(make_bank_in(folder), **{"evaluation.client_rows": request.param})
    return config, folder / "run", train_and_evaluate(config, folder / "run")


def test_every_method_has_every_figure_and_they_agree(run):
    config, folder, summary = run
    with np.load(folder / "partition.npz") as partition:
        counts = partition["class_counts"]
    for name in METHODS:
        entry = summary["methods"][name]
        classes = np.asarray(entry["test_class_accuracy"])
        assert classes.shape == (4,)
        # The bank has as many test rows of each class.
        assert entry["test_accuracy"] == pytest.approx(classes.mean())
        assert entry["test_balanced_accuracy"] == pytest.approx(classes.mean())
        assert 0 < entry["test_ece"] < 1
        assert entry["test_cross_entropy"] > 0
        assert 0 <= entry["clients"]["worst_tenth"] <= entry["clients"]["mean"] <= 1
        if config.evaluation.client_rows == "reweighted" and name != "local_only":
            own = counts / counts.sum(axis=1, keepdims=True) @ classes
            expected = {"mean": own.mean(), "worst_tenth": own.min(), "std": own.std()}
            assert entry["clients"] == pytest.approx(expected)
        assert ("rounds_to" in entry) == (name == "cachefl")


def test_a_round_that_is_evaluated_has_all_of_them_and_the_last_is_the_summarys(run):
    _, folder, summary = run
    first, *lines = (json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines())
    for line in (first, *lines):
        assert [name for name in SCALARS if name in line] == (list(SCALARS) if line["round"] % 2 == 0 else [])
        assert (line["test_accuracy"] is None) == (line["round"] % 2 == 1)
    for line, name in ((first, "cache_init"), (lines[-1], "cachefl")):
        entry = summary["methods"][name]
        entry = entry | {f"clients_{kind}": value for kind, value in entry["clients"].items()}
        assert {name: line[name] for name in (*UNSCORED, *SCALARS)} == {
            name: entry[name] for name in (*UNSCORED, *SCALARS)
        }
    assert summary["methods"]["cachefl"]["rounds_to"]["99"] in (2, 4)


def test_a_sweep_and_the_evaluate_command_say_the_same(run, tmp_path):
    config, folder, summary = run
    (line,) = run_points([config], [{}], tmp_path / "sweep", [], False)
    for name in ("zero_shot", "cache_init", "cachefl"):
        entry = summary["methods"][name]
        seconds = line["methods"][name]["seconds_per_round"]
        assert line["methods"][name] == entry | {"seconds_per_round": seconds, "test_class_accuracy": None}
    found = evaluate(config, folder, None)
    more = {"round": 4, "rows": {"test": 40, "validation": 20}}
    assert found == {key: entry[key] for key in found if key not in more} | more


def test_drift_is_in_the_line_of_every_round_that_somebody_took_part_in(make_bank, tmp_path):
    changes = {"evaluation.drift": True, "participation.name": "poisson", "cohort": 1, "rounds": 8}
    config = config_for(make_bank(), **changes, methods=("cachefl",))
    train_and_evaluate(config, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    sizes = [line["cohort"] for line in lines]
    assert 0 in sizes[1:]
    for line in lines:
        assert set(DRIFT) & set(line) == (set(DRIFT) if line["cohort"] else set())
    one = lines[sizes.index(1)]
    assert [one["cosine_to_mean"], one["gradient_diversity"]] == pytest.approx([1, 1], rel=1e-5)


def test_an_older_runs_files_go_on_without_them(run, tmp_path):
    """Its lines of metrics.jsonl lack the figures; the summary that is written has them."""
    config, _, summary = run
    short = config.copy_and_resolve_references()
    short.rounds = 2
    train_and_evaluate(short, tmp_path / "run")
    metrics = tmp_path / "run" / "metrics.jsonl"
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    older = [{name: line[name] for name in line if name not in SCALARS} for line in lines]
    metrics.write_text("".join(json.dumps(line) + "\n" for line in older))
    longer = train_and_evaluate(config, tmp_path / "run")["methods"]["cachefl"]
    same = summary["methods"]["cachefl"] | {"seconds_per_round": longer["seconds_per_round"]}
    assert longer == same
