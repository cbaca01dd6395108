"""A small federation, as the simulator runs it and as sites with a server of their own do."""

import warnings

import numpy as np
import pytest
from command_line import Prefork

from cachefl_jax.config import default, resolve
from cachefl_jax.data import Split
from cachefl_jax.pilot.rounds import Answer, ServerWork
from cachefl_jax.pilot.work import SiteWork
from cachefl_jax.simulation.prepare import prepare

with warnings.catch_warnings(action="ignore"):  # Flower's command line calls what its own libraries are to drop
    import flwr.app
    import flwr.clientapp
    import flwr.serverapp  # noqa: F401


@pytest.fixture(scope="session")
def command(tmp_path_factory):
    """`command_line.run`, without waiting for imports at every call."""
    prefork = Prefork(tmp_path_factory.mktemp("printed"))
    yield prefork
    prefork.close()


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
