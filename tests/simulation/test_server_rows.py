"""What the server of an aggregation that asks for its own update learns from."""

import numpy as np
import pytest

from cachefl_jax.config import resolve
from cachefl_jax.methods.cachefl import cachefl
from cachefl_jax.simulation.build import server_rows
from cachefl_jax.simulation.prepare import prepare
from experiments.configs import feature_bank


@pytest.mark.parametrize(("keys", "spare"), [(1, 2), (2, 1), (3, 0)])
def test_the_server_learns_from_images_that_are_no_keys_where_there_are_some(make_bank, keys, spare):
    config = feature_bank.get_config()
    config.data.path, config.cache.keys_per_class, config.aggregation.name = str(make_bank()), keys, "fl_trust"
    config = resolve(config)
    inputs = prepare(config)
    rows = server_rows(config, cachefl, inputs)
    used = inputs.server.synthetic.reshape(-1, inputs.bank.width)
    among = [(used == row).all(axis=1).any() for row in np.asarray(rows.features)]
    assert among == [not spare] * inputs.bank.classes * (spare or keys)
    assert np.bincount(rows.labels).tolist() == [spare or keys] * inputs.bank.classes
