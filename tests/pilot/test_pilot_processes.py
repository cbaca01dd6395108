"""`cachefl server` and `cachefl site` as people start them, on loopback: Flower's own processes, one site killed."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

from cachefl_jax.config import lookup
from cachefl_jax.pilot.flower import free_port
from cachefl_jax.simulation.metrics import read_lines
from cachefl_jax.simulation.prepare import prepare

pytestmark = pytest.mark.quick

ROOT = pathlib.Path(__file__).parents[2]
PATIENCE = 300  # seconds for all of it, on a busy machine
CONFIG = """
from cachefl_jax.config import default

def get_config():
    config = default()
    config.update_from_flattened_dict({changes})
    return config
"""


@pytest.fixture
def start(tmp_path):
    """(command, *words) -> the process; all are ended with the test."""
    started = []
    flags = os.environ["XLA_FLAGS"] + " --xla_cpu_multi_thread_eigen=false"
    slow = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "XLA_FLAGS": flags}

    def run(command: str, *words: str) -> subprocess.Popen:
        with (tmp_path / f"{command}{len(started)}.log").open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", f"experiments.{command}", *words], cwd=ROOT, env={**os.environ, **slow},
                stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        started.append(process)
        return process

    yield run
    for process in started:
        process.send_signal(signal.SIGTERM)
    for process in started:
        process.wait(30)


def wait_until(happened, process: subprocess.Popen) -> None:
    """Until something has happened, while the server lives."""
    ends = time.monotonic() + PATIENCE
    while not happened():
        assert process.poll() is None, "the server has ended"
        assert time.monotonic() < ends
        time.sleep(0.1)


def test_a_site_that_is_killed_is_left_out_and_the_keys_are_the_simulators(tmp_path, config_of, federate, start):
    """Two sites, which started before the server listens, do the first round, and a third one is refused; the second
    site is killed, and the other one does the second round by itself."""
    config = config_of(**{"rounds": 2, "partition.clients": 2, "partition.concentration": 5.0})
    inputs = prepare(config)
    for number in range(2):
        rows = inputs.partition.indices[inputs.partition.offsets[number] : inputs.partition.offsets[number + 1]]
        features, labels = (part[rows] for part in inputs.bank.train)
        np.savez(tmp_path / f"site{number}.npz", train_features=features, train_labels=labels)
    fields = ("rounds", "partition.clients", "data.name", "data.path", "cache.keys_per_class", "compare",
              "engine.devices", "local.batch_size", "local.learning_rate", "local.epochs")  # fmt: skip
    changes = {field: lookup(config, field) for field in fields}
    (tmp_path / "config.py").write_text(CONFIG.format(changes=changes))
    shared, port, path = (f"--config={tmp_path / 'config.py'}", "--insecure"), free_port(), tmp_path / "pilot"
    server = start(
        "server", *shared, f"--workdir={path}", "--sites=one,two", f"--address=127.0.0.1:{port}", "--late_seconds=25"
    )
    sites = [
        start("site", *shared, f"--data={tmp_path / file}", f"--server=127.0.0.1:{port}", f"--name={name}")
        for file, name in (("site0.npz", "one"), ("site1.npz", "two"), ("site1.npz", "Two"))
    ]
    wait_until(lambda: len(read_lines(path / "metrics.jsonl")) == 2, server)
    sites[1].kill()
    assert server.wait(PATIENCE) == 0
    lines = read_lines(path / "metrics.jsonl")
    assert [line["sites"] for line in lines] == [[], ["one", "two"], ["one"]]
    assert lines[1]["wire_up"] == lines[1]["bytes_up"] + 2 * 128
    work, _ = federate(config, {1: (1,)})
    np.testing.assert_allclose(load_file(path / "cache.safetensors")["keys"], work.state.params.keys, rtol=0, atol=1e-6)
    assert [sites[number].wait(PATIENCE) for number in (0, 2)] == [0, 2]
    told = [(tmp_path / name).read_text() for name in ("server0.log", "site1.log", "site3.log")]
    assert told[0].startswith(f"listening at 127.0.0.1:{port}, waiting for one, two\n")
    assert "round 2: two did not answer and is left out" in told[0]
    assert told[1].splitlines()[-1] == "the pilot is done, after 2 rounds"
    line = "--name: got Two; allowed: a name that the server expects; mend: --name=two"
    assert told[2].splitlines()[-1] == line
    assert f"Two is refused: {line}" in told[0]
    assert "Traceback" not in "".join(told)
