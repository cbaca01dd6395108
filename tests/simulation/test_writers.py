"""TensorBoard and Weights & Biases get what metrics.jsonl has; stand-ins with their interfaces write down what came."""

import json
import sys

import pytest

from cachefl_jax.config import changed, default
from cachefl_jax.errors import UsageError
from cachefl_jax.simulation.train import train_and_evaluate

TENSORBOARD = """
import json, pathlib

class SummaryWriter:
    def __init__(self, logdir, purge_step):
        self.file = (pathlib.Path(logdir) / "told.jsonl").open("a")
        self.tell("start", None, purge_step)

    def tell(self, *values):
        self.file.write(json.dumps(values) + "\\n")

    add_scalar = tell

    def flush(self):
        self.file.flush()

    def close(self):
        self.tell("end", None, None)
        self.file.close()
"""
WANDB = """
import json, os, pathlib

class Run:
    def __init__(self, file, given):
        self.file, self.step = file, 0
        if file.is_file():
            lines = [json.loads(line) for line in file.read_text().splitlines()]
            self.step = max((line["step"] + 1 for line in lines if "step" in line), default=0)
        self.tell(given)

    def tell(self, line):
        with self.file.open("a") as file:
            file.write(json.dumps(line) + "\\n")

    def log(self, values, step):
        assert step >= self.step
        self.step = step + 1
        self.tell({"step": step, "values": values})

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.tell({"finished": kind is None})

def init(dir, id, **given):
    if os.environ.get("WANDB_MODE") == "broken":
        raise ConnectionError("no\\nlogin")
    return Run(pathlib.Path(dir) / f"{id}.jsonl", given)
"""


@pytest.fixture
def stand_ins(tmp_path, monkeypatch):
    """Packages of both names that can be imported, in this test alone."""
    folder = tmp_path / "packages"
    folder.mkdir()
    for name, text in (("tensorboardX", TENSORBOARD), ("wandb", WANDB)):
        (folder / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(folder)
    yield
    for name in ("tensorboardX", "wandb"):
        sys.modules.pop(name, None)


@pytest.fixture
def config_of(make_bank):
    path = str(make_bank())

    def make(**changes):
        fields = {
            "data.name": "feature_bank", "data.path": path, "partition.clients": 3, "cache.keys_per_class": 2,
            "rounds": 3, "eval_every": 2, "engine.devices": 1, "engine.strategy": "scan", "compare": ("cachefl",),
            "writers": ("tensorboard", "wandb"),
        }  # fmt: skip
        return changed(default(), fields | changes)

    return make


def lines(path) -> list:
    return [json.loads(line) for line in path.read_text().splitlines()]


def measured(folder) -> list[tuple[str, float, int]]:
    """(name, value, round) of every number in metrics.jsonl."""
    found = []
    for record in lines(folder / "metrics.jsonl"):
        found += [(name, value, record["round"]) for name, value in record.items() if name != "round"]
    return [each for each in found if each[1] is not None]


def test_both_get_every_number_of_every_round(stand_ins, config_of, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    folder = tmp_path / "run"
    train_and_evaluate(config_of(), folder)
    expected = measured(folder)
    assert {name for name, _, _ in expected} > {"test_accuracy", "train_loss", "bytes_up"}
    first, *told, last = map(tuple, lines(folder / "tensorboard" / "told.jsonl"))
    assert (first, told, last) == (("start", None, 0), expected, ("end", None, None))
    (file,) = folder.glob("[0-9a-f]*.jsonl")
    begun, *steps, ended = lines(file)
    assert (begun["project"], begun["name"], begun["resume"]) == ("mine", "run", "allow")
    assert begun["config"]["cache"]["keys_per_class"] == 2
    assert [(name, value, line["step"]) for line in steps for name, value in line["values"].items()] == expected
    assert ended == {"finished": True}


def test_more_rounds_go_on_in_one_series_and_a_writer_may_come_later(stand_ins, config_of, tmp_path):
    folder = tmp_path / "run"
    train_and_evaluate(config_of(rounds=1, writers=("wandb",)), folder)
    train_and_evaluate(config_of(eval_every=2), folder)
    (file,) = folder.glob("[0-9a-f]*.jsonl")
    assert [line["step"] for line in lines(file) if "step" in line] == [0, 1, 2, 3]
    told = [tuple(line) for line in lines(folder / "tensorboard" / "told.jsonl")]
    assert told[1:-1] == measured(folder), "TensorBoard has the rounds from before, too"


def test_a_refusal_is_one_line(stand_ins, config_of, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "broken")
    told = r"writers: got wandb \(ConnectionError: no login\); .*WANDB_MODE=offline"
    with pytest.raises(UsageError, match=told):
        train_and_evaluate(config_of(), tmp_path / "run")


def test_a_package_that_is_not_there_is_told_before_anything_is_written(config_of, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"writers: got tensorboard \(no package tensorboardX\); .*pip install"):
        train_and_evaluate(config_of(), tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()
