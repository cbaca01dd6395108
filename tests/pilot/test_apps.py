"""The server's and the sites' Flower apps on a grid in memory: messages as Flower has them, without its processes."""

import json

import numpy as np
import pytest
from flwr.app import Context, Error, RecordDict
from flwr.app import Message as FlowerMessage
from flwr.supercore.task_identity import TaskIdentity
from safetensors.numpy import load_file

from cachefl_jax import simulate
from cachefl_jax.errors import UsageError
from cachefl_jax.pilot import site_app
from cachefl_jax.pilot.serve import serve
from cachefl_jax.simulation.metrics import read_lines
from cachefl_jax.simulation.prepare import prepare

pytestmark = pytest.mark.quick
NAMES = ["north", "south", "west"]
NEAR = 1e-6


@pytest.fixture(autouse=True)
def in_a_run(monkeypatch):
    """Messages are of a run, which Flower notes before it starts an app."""
    for name in ("task", "run", "node"):
        monkeypatch.setattr(TaskIdentity, f"_{name}_id", 1)


class GridInMemory:
    """Nodes 100, 101, ... that answer at once, in reverse order.

    Args:
        contexts: of each node.
        lost: (node, group) that do not answer; a group is a round's number as text.
    """

    def __init__(self, contexts: list[Context], lost: tuple = ()):
        self.contexts, self.lost = {100 + number: each for number, each in enumerate(contexts)}, set(lost)

    def get_node_ids(self):
        return list(self.contexts)

    def send_and_receive(self, messages, *, timeout):
        assert timeout > 0
        for message in reversed(list(messages)):
            node, group = message.metadata.dst_node_id, message.metadata.group_id
            if (node, "silent", group) in self.lost:
                continue
            if (node, "gone", group) in self.lost:
                yield FlowerMessage(Error(code=3, reason="the node is gone"), reply_to=message)
                continue
            yield site_app.app(message, self.contexts[node])


@pytest.fixture
def site(tmp_path, config_of):
    """(number, config, name, rows) -> the context of a site; its rows are the simulator's client `number`'s."""

    def make(number: int, config, name: str = "") -> Context:
        inputs = prepare(config_of(**{"partition.name": "dirichlet"}))
        offsets, name = inputs.partition.offsets, name or NAMES[number]
        rows = inputs.partition.indices[offsets[number] : offsets[number + 1]]
        folder = tmp_path / name
        folder.mkdir()
        train = inputs.bank.train
        np.savez(folder / "rows.npz", train_features=train.features[rows], train_labels=train.labels[rows])
        told = {"name": name, "data": str(folder / "rows.npz"), "config": json.loads(json.dumps(config.to_dict()))}
        (folder / "site.json").write_text(json.dumps(told))
        return Context(1, 100 + number, {"site": str(folder / "site.json")}, RecordDict(), {})

    return make


@pytest.fixture
def pilot(tmp_path, config_of, site):
    """(config, lost=(), sites=None) -> the folder of a pilot of three sites."""

    def run(config, lost=(), contexts=None):
        contexts = contexts or [site(number, config) for number in range(3)]
        path = tmp_path / "pilot"
        path.mkdir()
        serve(GridInMemory(contexts, lost), config, path, {"sites": NAMES, "wait": 0.5, "round_seconds": 1.0})
        return path

    return run


def test_a_pilot_leaves_the_simulators_keys_and_bytes(config_of, pilot):
    """Its folder has the simulator's keys, losses, accuracies and counted bytes; an array is 128 bytes longer on the
    wire."""
    config = config_of()
    results, path = simulate(config), pilot(config)
    artefact = load_file(path / "cache.safetensors")["keys"]
    np.testing.assert_allclose(artefact, results.artefact["keys"], rtol=0, atol=NEAR)
    assert np.abs(artefact - load_file(path / "cache_init.safetensors")["keys"]).max() > 1e-2
    lines = read_lines(path / "metrics.jsonl")
    assert len(lines) == 4
    for ours, theirs in zip(lines, results.records, strict=True):
        for name in ("round", "bytes_up", "bytes_down", "cohort", "test_accuracy", "validation_accuracy"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-6), name
        for way in ("up", "down"):
            assert ours[f"wire_{way}"] == ours[f"bytes_{way}"] + 128 * ours["cohort"]
    told = json.loads((path / "summary.json").read_text())
    rows = np.diff(prepare(config).partition.offsets)
    assert told["pilot"]["sites"] == [
        {"name": name, "rows": count, "rounds": 3} for name, count in zip(NAMES, rows.tolist(), strict=True)
    ]
    assert told["pilot"]["bytes_up"] == sum(line["bytes_up"] for line in results.records)
    assert told["final"]["test_accuracy"] == lines[-1]["test_accuracy"]


@pytest.mark.parametrize("how", ["silent", "gone"])
def test_a_site_that_is_lost_is_left_out_from_then_on(config_of, pilot, federate, how):
    """The second site answers no more from round 2 on, and rounds 2 and 3 are without it."""
    config = config_of()
    path = pilot(config, [(101, how, "2")])
    work, _ = federate(config, {1: (1,), 2: (1,)})
    np.testing.assert_allclose(load_file(path / "cache.safetensors")["keys"], work.state.params.keys, rtol=0, atol=NEAR)
    assert [line["sites"] for line in read_lines(path / "metrics.jsonl")[1:]] == [NAMES, ["north", "west"]] + [
        ["north", "west"]
    ]
    assert "round 2: south did not answer and is left out" in (path / "pilot.log").read_text()


def test_a_round_that_nobody_answers_ends_the_pilot(config_of, pilot):
    lost = [(100 + number, "silent", "2") for number in range(3)]
    with pytest.raises(UsageError, match="none of north, south, west answered in round 2"):
        pilot(config_of(), lost)


def test_a_site_of_another_config_is_refused_by_name_and_field(config_of, pilot, site):
    config = config_of()
    contexts = [site(0, config), site(1, config_of(**{"local.epochs": 5})), site(2, config)]
    with pytest.raises(UsageError, match=r"a site: got refused.*local.epochs: got 5; allowed: 2, as the server has it"):
        pilot(config, contexts=contexts)


def test_a_site_that_is_not_on_the_list_is_refused(config_of, pilot, site):
    config = config_of()
    with pytest.raises(UsageError, match=r"--name: got east; allowed: one of --sites, north, south, west"):
        pilot(config, contexts=[site(0, config, "east")])


def test_sites_that_do_not_come_are_named(config_of, pilot, site):
    config = config_of()
    with pytest.raises(UsageError, match="south, west did not come"):
        pilot(config, contexts=[site(0, config)])
