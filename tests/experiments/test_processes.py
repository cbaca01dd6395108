"""Two processes on loopback are one run: the same keys as one process, and one set of files."""

import json
import socket
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


@pytest.mark.parametrize(("optimizer", "devices"), [("adamw", 2), ("sgd", 4)])  # 1 or 2 of each process
def test_two_processes_give_the_keys_of_one_and_resume(make_bank, tmp_path, optimizer, devices):
    bank = make_bank()
    words = [sys.executable, "-m", "experiments.run", "--config=experiments/configs/feature_bank.py"]
    words += [f"--config.data.path={bank}", "--config.methods=('cachefl',)", f"--config.local.optimizer={optimizer}"]
    words += ["--config.cohort=6", "--config.checkpoint_every=2", "--config.local.learning_rate=0.01"]

    def together(folder: str) -> list[str]:
        """Both processes' stdout, once both have ended well."""
        coordinator = f"127.0.0.1:{free_port()}"
        spread = [f"--config.engine.devices={devices}", "--processes=2", f"--coordinator={coordinator}"]
        spread.append(f"--workdir={folder}")
        pair = [
            subprocess.Popen([*words, "--config.rounds=4", *spread, f"--process={number}"], text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            for number in range(2)
        ]  # fmt: skip
        told = [process.communicate(timeout=180) for process in pair]
        assert [process.returncode for process in pair] == [0, 0], told
        return [out for out, _ in told]

    alone = [*words, "--config.rounds=4", "--config.engine.devices=1", f"--workdir={tmp_path / 'alone'}"]
    subprocess.run(alone, check=True, capture_output=True)
    first, second = together(str(tmp_path / "two"))
    assert "CacheFL" in first
    assert "CacheFL" not in second
    expected, keys = (load_file(tmp_path / name / "cache.safetensors")["keys"] for name in ("alone", "two"))
    start = load_file(tmp_path / "alone" / "cache_init.safetensors")["keys"]
    assert np.abs(expected - start).max() > 1e-3
    assert np.abs(keys - expected).max() < (1e-6 if optimizer == "adamw" else 1e-5)
    rounds = [json.loads(line)["round"] for line in (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()]
    assert rounds == list(range(5))
    # As if killed after the checkpoint of round 2.
    before = (tmp_path / "two" / "cache.safetensors").read_bytes()
    for name in ("summary.json", "report.html", "cache.safetensors"):
        (tmp_path / "two" / name).unlink()
    for file in sorted((tmp_path / "two" / "checkpoints" / "4").rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    (tmp_path / "two" / "checkpoints" / "4").rmdir()
    together(str(tmp_path / "two"))
    assert (tmp_path / "two" / "cache.safetensors").read_bytes() == before
