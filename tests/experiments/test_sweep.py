"""A sweep: its points come from the config, are checked beforehand, and are ranked by validation accuracy alone."""

import json
import subprocess
import sys

import pytest

from cachefl_jax.errors import UsageError
from experiments.sweep import configs, points, ranking

CONFIG = """
from experiments.configs import feature_bank

def get_config():
    config = feature_bank.get_config()
    config.data.path = {path!r}
    config.partition.clients, config.rounds = 4, 2
    return config

def sweep(add):
    for alpha in (1.0, 30.0):
        for seed in (0, 1):
            add(**{{"cache.alpha": alpha, "seed": seed, "methods": ("cachefl",)}})
"""


def test_every_point_runs_alone_and_has_its_line(make_bank, tmp_path):
    file, workdir = tmp_path / "mine.py", tmp_path / "sweep"
    file.write_text(CONFIG.format(path=str(make_bank())))
    words = [sys.executable, "-m", "experiments.sweep", f"--config={file}", f"--workdir={workdir}"]
    for _ in range(2):  # the second time everything is there
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        assert "validation  runs  point" in done.stdout
    assert done.stdout.count("already done") == 4
    rows = [json.loads(line) for line in (workdir / "results.jsonl").read_text().splitlines()]
    assert [row["overrides"]["cache.alpha"] for row in rows] == [1.0, 1.0, 30.0, 30.0]
    for row in rows:
        assert row["methods"] == json.loads((workdir / f"{row['point']:03d}" / "summary.json").read_text())["methods"]


def row(alpha: float, seed: int, validation: float | None, test: float) -> dict:
    method = {"validation_accuracy": validation, "test_accuracy": test}
    return {"point": 0, "overrides": {"cache.alpha": alpha, "seed": seed}, "methods": {"cachefl": method}}


def test_points_are_ranked_by_the_mean_over_seeds_of_validation_accuracy():
    results = [row(1.0, 0, 0.9, 0.0), row(1.0, 1, 0.7, 0.0), row(5.0, 0, 0.84, 0.1), row(5.0, 1, 0.82, 0.1)]
    lines = ranking(results).splitlines()
    assert lines[1].split() == ["0.8300", "2", "cache.alpha=5.0"]
    assert lines[2].split() == ["0.8000", "2", "cache.alpha=1.0"]


def test_without_validation_rows_there_is_nothing_to_rank_by():
    assert "nothing to rank by" in ranking([row(1.0, 0, None, 0.9)])


def test_a_file_without_a_sweep_or_with_an_empty_one_is_refused(tmp_path):
    file = tmp_path / "mine.py"
    for text, match in (("", r"a config file with sweep\(add\)"), ("def sweep(add):\n    pass\n", "added nothing")):
        file.write_text(text)
        with pytest.raises(UsageError, match=match):
            points(str(file))


def test_unknown_fields_and_wrong_values_are_refused_before_a_point_runs():
    from experiments.configs.digits import get_config

    assert [point.rounds for point in configs(get_config(), [{"rounds": 1}, {"rounds": 2}])] == [1, 2]
    with pytest.raises(UsageError, match=r"sweep: cache.gamma: got 1"):
        list(configs(get_config(), [{"cache.gamma": 1}]))
    with pytest.raises(UsageError, match=r"rounds: got -1"):
        list(configs(get_config(), [{"rounds": 1}, {"rounds": -1}]))
