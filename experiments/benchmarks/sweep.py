"""A sweep of 64 points of the small workload, seeds x rates x concentrations at 30 rounds: its command's whole seconds.

`experiments.benchmarks.accelerator` takes them; `experiments.benchmarks.grid` holds a sweep against runs.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

from cachefl_jax.storage.files import write_arrays
from experiments.benchmarks import workloads

CONFIG = """
from cachefl_jax.config import default

def get_config():
    config = default()
    config.data.name, config.data.path, config.synthesis.source = "feature_bank", {bank!r}, "bank"
    config.methods, config.partition.clients, config.cache.keys_per_class = ("cachefl",), 100, 16
    config.cache.alpha, config.cache.beta = 1.17, 5.5
    config.local.optimizer, config.local.learning_rate = "sgd", 1e-3
    config.rounds, config.eval_every, config.checkpoint_every = 30, 30, 30
    return config

def sweep(add):
    for seed in range(4):
        for rate in (1e-4, 1e-3, 1e-2, 1e-1):
            for concentration in (0.1, 0.5, 1.0, 10.0):
                add(**{{"seed": seed, "local.learning_rate": rate, "partition.concentration": concentration}})
"""


def write_bank(path: pathlib.Path) -> None:
    """The small workload as a feature bank: its rows, and its keys as the synthetic set."""
    arrays = workloads.make(workloads.WORKLOADS["small"])
    keys, text = arrays.keys, arrays.text
    write_arrays(path, {
        "train_features": arrays.features, "train_labels": arrays.labels,
        "test_features": arrays.features[:500], "test_labels": arrays.labels[:500],
        "val_features": arrays.features[500:1000], "val_labels": arrays.labels[500:1000],
        "synthetic_features": keys.reshape(-1, keys.shape[-1]),
        "synthetic_labels": np.repeat(np.arange(len(keys)), keys.shape[1]),
        "text_features": text, "metadata": np.array('{"logit_scale": 100.0}'),
    })  # fmt: skip


def twice(words: list[str], tiny: bool) -> dict[str, float]:
    """Seconds of the sweep's command with these words, the first time and the second, each in a new folder with a
    store that was empty before the first; `tiny`: of 2 rounds."""
    found = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        write_bank(folder / "bank.npz")
        config = CONFIG.format(bank=str(folder / "bank.npz"))
        (folder / "config.py").write_text(config.replace("30, 30, 30", "2, 2, 2") if tiny else config)
        places = {"CACHEFL_HOME": str(folder / "store"), "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        for name in ("first", "second"):
            command = ["-m", "experiments.sweep", f"--config={folder / 'config.py'}", f"--workdir={folder / name}"]
            found[f"{name}_s"] = timed([*command, *words], os.environ | places)
    return found


def timed(words: list[str], environment: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, capture_output=True, text=True, env=environment)
    return time.perf_counter() - began
