"""What a run's preparation takes of the host's memory, in a process of its own."""

import json
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from cachefl_jax import machine
from cachefl_jax.config import default, resolve
from cachefl_jax.errors import UsageError
from cachefl_jax.methods import Rows, text_logits
from cachefl_jax.methods.method import Text
from cachefl_jax.simulation import examples
from cachefl_jax.simulation.build import build
from cachefl_jax.simulation.prepare import prepare

ROWS = {"train": 70_000, "test": 20_000, "synthetic": 5_000}
WIDTH, CLASSES = 512, 10
PREPARE = """
import json, sys
import jax, jax.numpy as jnp
from cachefl_jax.config import default, resolve
from cachefl_jax.simulation.build import build
from cachefl_jax.simulation.prepare import counted, partition_arrays, prepare

def told(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name)) * 1024

config = default()
config.update({"data": {"name": "feature_bank", "path": sys.argv[1]}, "partition": {"clients": 50}})
config = resolve(config)
jax.block_until_ready(jax.jit(lambda x: x @ x.T)(jnp.ones((8, 8))))
before = told("RssAnon")
inputs = prepare(config)
partition_arrays(inputs)
learner = build(config, inputs, ordered=True)
# Not getrusage's peak, which begins at that of the process which started this one. Pages of libraries come and go with
# the machine's other work.
peak = told("VmHWM") - told("RssFile")
print(json.dumps(peak - before))
"""


@pytest.mark.skipif(not pathlib.Path("/proc/self/status").is_file(), reason="resident memory is read as Linux tells it")
def test_preparing_a_run_takes_at_most_two_and_a_half_times_the_banks_data(tmp_path):
    """From the file to rows that lie client after client. A bank used to take 4.5 times its data."""
    block = np.random.default_rng(0).normal(size=(5_000, WIDTH)).astype(np.float32)
    arrays = {"text_features": block[:CLASSES]}
    for name, rows in ROWS.items():
        arrays |= {f"{name}_features": np.resize(block, (rows, WIDTH)), f"{name}_labels": np.arange(rows) % CLASSES}
    np.savez(tmp_path / "bank.npz", **arrays)
    words = [sys.executable, "-c", PREPARE, str(tmp_path / "bank.npz")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    factor = json.loads(done.stdout.splitlines()[-1]) / (sum(ROWS.values()) * WIDTH * 4)
    print(f"{factor:.2f} times the bank's data")
    assert factor < 2.5


def test_text_logits_come_in_blocks_and_are_refused_where_there_is_no_room(monkeypatch):
    rng = np.random.default_rng(0)
    features, text = (rng.normal(size=(rows, 8)).astype(np.float32) for rows in (23, 4))
    rows, frozen = Rows(None, features), Text(text, np.float32(100))
    monkeypatch.setattr(examples, "BLOCK_BYTES", 5 * features[0].nbytes)
    expected, found = jax.jit(text_logits)(frozen, rows), examples.text_logits_of(features, text, 100.0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    places = rng.permutation(23)
    assert (examples.text_logits_of(features, text, 100.0, places)[places] == found).all()
    monkeypatch.setattr(machine, "free_memory", lambda: 100)
    with pytest.raises(UsageError, match=r"text logits of the training rows \(takes 368 bytes\)"):
        examples.text_logits_of(features, text, 100.0)


def small_run(bank: pathlib.Path):
    """(config, inputs) of five clients."""
    config = default()
    config.update({"data": {"name": "feature_bank", "path": str(bank)}, "partition": {"clients": 5}})
    config.cache.keys_per_class = 1
    config = resolve(config)
    return config, prepare(config)


def test_rows_client_after_client_are_the_banks_own_to_the_bit(make_bank, monkeypatch):
    monkeypatch.setattr(examples, "BLOCK_BYTES", 200)
    config, inputs = small_run(make_bank())
    own, ordered = (build(config, inputs, ordered=each).problem for each in (False, True))
    assert (own.clients.indices == inputs.partition.indices).all()
    assert (ordered.clients.indices == np.arange(60)).all()
    for name in ("features", "labels", "text_logits"):
        assert (getattr(ordered.data, name) == getattr(own.data, name)[inputs.partition.indices]).all()


def test_rows_that_have_no_room_on_the_host_are_refused(make_bank, monkeypatch):
    """The check of a device's memory does not see the host's copy of the rows."""
    config, inputs = small_run(make_bank())
    monkeypatch.setattr(machine, "free_memory", lambda: 1000)
    with pytest.raises(UsageError, match=r"data: got training rows in the order of the clients \(takes 2,160 bytes\)"):
        build(config, inputs, ordered=True)
