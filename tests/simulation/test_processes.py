"""Two processes on loopback are one run: the same keys as one process, and one set of files."""

import json
import shutil
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

from cachefl_jax.simulation import peers
from cachefl_jax.storage.checkpoint import rounds_saved
from cachefl_jax.storage.locks import FOLDER_LOCK, folder_lock

pytestmark = pytest.mark.quick

RUN = [sys.executable, "-m", "experiments.run"]


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


@pytest.mark.parametrize(("optimizer", "devices"), [("adamw", 2), ("sgd", 4)])  # 1 or 2 of each process
def test_two_processes_give_the_keys_of_one_and_resume(make_bank, quick_start, tmp_path, optimizer, devices):
    bank = make_bank()
    words = ["--config=experiments/configs/feature_bank.py", "--config.rounds=4", f"--config.data.path={bank}"]
    words += ["--config.methods=('cachefl',)", f"--config.local.optimizer={optimizer}", "--config.cohort=6"]
    words += ["--config.checkpoint_every=2", "--config.local.learning_rate=0.01"]

    def together(folder: str) -> list[str]:
        """Both processes' stdout, once both have ended well."""
        coordinator = f"127.0.0.1:{free_port()}"
        spread = [f"--config.engine.devices={devices}", "--processes=2", f"--coordinator={coordinator}"]
        spread.append(f"--workdir={folder}")
        pair = [
            subprocess.Popen([*RUN, *words, *spread, f"--process={number}"], text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            for number in range(2)
        ]  # fmt: skip
        told = [process.communicate(timeout=180) for process in pair]
        assert [process.returncode for process in pair] == [0, 0], told
        return [out for out, _ in told]

    alone = quick_start(*words, "--config.engine.devices=1", f"--workdir={tmp_path / 'alone'}")
    assert alone.returncode == 0, alone.stderr
    first, second = together(str(tmp_path / "two"))
    assert "CacheFL" in first
    assert "CacheFL" not in second
    expected, keys = (load_file(tmp_path / name / "cache.safetensors")["keys"] for name in ("alone", "two"))
    start = load_file(tmp_path / "alone" / "cache_init.safetensors")["keys"]
    assert np.abs(expected - start).max() > 1e-3
    assert np.abs(keys - expected).max() < (1e-6 if optimizer == "adamw" else 1e-5)
    rounds = [json.loads(line)["round"] for line in (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()]
    assert rounds == list(range(5))
    # As if killed after the checkpoint of round 2, or with a damaged one of round 4.
    before = (tmp_path / "two" / "cache.safetensors").read_bytes()
    for name in ("summary.json", "report.html", "cache.safetensors"):
        (tmp_path / "two" / name).unlink()
    last = tmp_path / "two" / "checkpoints" / "4"
    if optimizer == "adamw":
        shutil.rmtree(last)
    else:
        file = last / "state" / "_METADATA"
        file.write_bytes(file.read_bytes().replace(b"{", b"[", 1))
    together(str(tmp_path / "two"))
    assert (tmp_path / "two" / "cache.safetensors").read_bytes() == before


UNHEALTHY = """\
E1126 11:52:07.504947   13052 coordination_service.cc:1549] [90] Use error polling to propagate the following error: \
UNAVAILABLE: The following tasks are unhealthy (stopped sending heartbeats):
1
3
The tasks have crashed. Check the task logs for an earlier error.
"""


def test_the_lost_process_is_named_by_the_services_words():
    assert peers.lost(UNHEALTHY) == "processes 1, 3 were lost: killed, ended, or out of reach"
    assert peers.lost(UNHEALTHY.replace("3\n", "")).startswith("process 1 was lost")
    assert peers.lost("UNAVAILABLE: Failed to send RPC to coordination service. Either").startswith(
        "process 0 was lost"
    )
    assert peers.lost("something new").startswith("another process was lost")


def test_all_but_the_services_words_are_handed_on_and_the_last_of_them_end_the_process():
    """In a process that writes what C++ would have written, and then aborts as it does."""
    fatal = f"F1126 11:52:07.5   13063 client.h:80] {peers.FATAL} detected\n{peers.TRACE}: ***\n    @ 0x7f\n"
    body = (
        "import ctypes, os; from cachefl_jax.simulation import peers; peers.watch(); os.write(2, b'mine\\n');"
        f"os.write(2, {UNHEALTHY.encode()!r}); os.write(2, {fatal.encode()!r}); ctypes.CDLL(None).abort()"
    )
    done = subprocess.run([sys.executable, "-c", body], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr == f"mine\nprocesses 1, 3 were lost: killed, ended, or out of reach; {peers.HINT}\n"


def test_when_process_0_is_killed_the_other_says_so_in_one_line_and_the_same_command_goes_on(
    make_bank, quick_start, tmp_path
):
    workdir = tmp_path / "run"
    words = ["--config=experiments/configs/feature_bank.py", f"--config.data.path={make_bank()}"]
    words += ["--config.methods=('cachefl',)", "--config.engine.strategy=scan"]
    words += ["--config.cohort=6", "--config.checkpoint_every=10", "--config.rounds=300", "--config.eval_every=300"]
    words += ["--config.engine.devices=2", f"--workdir={workdir}", "--processes=2"]
    coordinator = f"--coordinator=127.0.0.1:{free_port()}"
    first, second = (
        subprocess.Popen([*RUN, *words, coordinator, f"--process={number}"], text=True, stderr=subprocess.PIPE,
                         stdout=subprocess.DEVNULL)
        for number in range(2)
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and first.poll() is None and not rounds_saved(workdir / "checkpoints"):
        time.sleep(0.02)
    first.kill()
    first.communicate()
    _, errors = second.communicate(timeout=60)
    assert second.returncode == 1, errors
    assert errors == f"process 0 was lost: killed, ended, or out of reach; {peers.HINT}\n"
    saved = max(rounds_saved(workdir / "checkpoints"))
    alone = quick_start(*(word for word in words if word != "--processes=2"))
    assert alone.returncode == 0, alone.stderr
    assert f"resuming after round {saved} of 300" in alone.stderr


def test_where_process_0_is_refused_its_folder_all_leave(make_bank, tmp_path):
    words = [*RUN, "--config=experiments/configs/feature_bank.py", "--processes=2"]
    words += [f"--config.data.path={make_bank()}", f"--workdir={tmp_path / 'run'}"]
    words.append(f"--coordinator=127.0.0.1:{free_port()}")
    with folder_lock(tmp_path / "run"):
        pair = [
            subprocess.Popen([*words, f"--process={number}"], text=True, stderr=subprocess.PIPE) for number in range(2)
        ]
        first, second = (process.communicate(timeout=180)[1].strip() for process in pair)
        assert [entry.name for entry in (tmp_path / "run").iterdir()] == [FOLDER_LOCK]
    assert [process.returncode for process in pair] == [2, 2], (first, second)
    assert "in use by process" in first
    assert "--process: got 1 (process 0 was refused the run's folder)" in second
    assert [len(told.splitlines()) for told in (first, second)] == [1, 1], (first, second)
