"""A small federation, as the simulator runs it and as sites with a server of their own do."""

import json
import warnings

import numpy as np
import pytest

from cachefl_jax.config import default, resolve
from cachefl_jax.data import Split
from cachefl_jax.pilot.limits import of_sites
from cachefl_jax.pilot.rounds import Answer, ServerWork
from cachefl_jax.pilot.work import SiteWork
from cachefl_jax.simulation.prepare import prepare

with warnings.catch_warnings(action="ignore"):  # Flower's command line calls what its own libraries are to drop
    from flwr.app import Context, Error, RecordDict
    from flwr.app import Message as FlowerMessage
    from flwr.supercore.task_identity import TaskIdentity

    from cachefl_jax.pilot import site_app
    from cachefl_jax.pilot.serve import serve

NAMES = ["north", "south", "west"]


@pytest.fixture
def config_of(make_bank):
    """(**changes) -> a resolved config of three rounds at three clients of a small bank, of different sizes."""

    def make(**changes):
        config = default()
        config.data.name, config.data.path = "feature_bank", str(make_bank())
        config.partition.clients, config.partition.concentration = 3, 0.5
        config.cache.keys_per_class, config.rounds, config.compare = 3, 3, ("cachefl",)
        config.local.batch_size, config.local.learning_rate, config.local.epochs = 8, 0.05, 2
        config.engine.devices, config.engine.strategy = 1, "scan"
        config.update_from_flattened_dict(changes)
        return resolve(config)

    return make


@pytest.fixture
def federate():
    """(config, missing={}) -> (the server's work after all rounds, RoundMetrics of each): every site trains on a copy
    of its own rows and nothing else; `missing` has the numbers of those who do not answer, by round from 0."""

    def run(config, missing=None):
        inputs = prepare(config)
        partition, train, server = inputs.partition, inputs.bank.train, inputs.server
        bounds = zip(partition.offsets[:-1], partition.offsets[1:], strict=True)
        splits = [Split(*(np.array(part[partition.indices[a:b]]) for part in train)) for a, b in bounds]
        counts = [len(split.labels) for split in splits]
        sites, work = (
            [SiteWork(config, server, split, max(counts)) for split in splits],
            ServerWork(config, inputs, counts),
        )
        told = []
        for number in range(config.rounds):
            lost = (missing or {}).get(number, ())
            asked = [site for site in reversed(work.asked()) if site not in lost]
            told.append(work.close({site: Answer(*sites[site].train(work.leaves(), number, site)) for site in asked}))
        return work, told

    return run


@pytest.fixture
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
        self.sent: list[str] = []  # names of messages
        self.answers: dict[str, FlowerMessage] = {}

    def get_node_ids(self):
        return list(self.contexts)

    def push_messages(self, messages):
        """Sends them out, and says under which names their answers come."""
        for message in reversed(list(messages)):
            name, node, group = str(len(self.sent)), message.metadata.dst_node_id, message.metadata.group_id
            self.sent.append(name)
            message.metadata.__dict__["_message_id"] = name  # as Flower's own grid does
            if (node, "silent", group) in self.lost:
                continue
            if (node, "gone", group) in self.lost:
                self.answers[name] = FlowerMessage(Error(code=3, reason="the node is gone"), reply_to=message)
            else:
                self.answers[name] = site_app.app(message, self.contexts[node])
        return self.sent[-len(list(messages)) :]

    def pull_messages(self, names):
        return [self.answers.pop(name) for name in sorted(names) if name in self.answers]


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
    """(config, lost=(), contexts=None, **limits) -> the folder of a pilot of three sites."""

    def run(config, lost=(), contexts=None, **limits):
        contexts = contexts or [site(number, config) for number in range(3)]
        path = tmp_path / "pilot"
        path.mkdir()
        told = {"sites": NAMES, "wait": 0.5, "round_seconds": 1.0, "late_seconds": 0.0} | limits
        for name, fields in (("config.json", of_sites(config, 3).to_dict()), ("pilot.json", told)):  # as `lead` does
            (path / name).write_text(json.dumps(fields))
        serve(GridInMemory(contexts, lost), config, path, told)
        return path

    return run
