"""What one program for a whole sweep saves: 64 points of the small workload, three ways.

    python -m experiments.benchmarks.sweep --output=DIR

Seeds x learning rates x concentrations, 30 rounds each, evaluated once. Timed in turn: the sweep command (its start
included), a loop over `train_and_evaluate` in one process (JAX's start excluded, reports included, as a user would
write it), and a process a point. The latter two run some of the points, --loop_points and --process_points of them,
each a different one, and are quoted a point. Writes sweep.json.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
from absl import flags

from cachefl_jax.commands import command
from cachefl_jax.storage.files import write_arrays, write_json
from experiments.benchmarks import workloads
from experiments.benchmarks.engine import checked_output

POINTS = 64
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
LOOP = """
import pathlib, runpy, sys, time
import jax
from absl import flags
from cachefl_jax.commands import sweep
from cachefl_jax.simulation.train import train_and_evaluate

flags.FLAGS(["loop"])
file, folder, count = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3])
configs = list(sweep.configs(runpy.run_path(file)["get_config"](), sweep.points(file)))
jax.devices()
began = time.perf_counter()
for number in range(count):
    train_and_evaluate(configs[number * len(configs) // count], folder / str(number))
print("seconds", time.perf_counter() - began)
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
            found[f"{name}_s"] = timed([*command, *words], os.environ | places)[0]
    return found


def timed(words: list[str], environment: dict[str, str] | None = None) -> tuple[float, str]:
    began = time.perf_counter()
    done = subprocess.run([sys.executable, *words], check=True, capture_output=True, text=True, env=environment)
    return time.perf_counter() - began, done.stdout


def measure(folder: pathlib.Path, name: str, loop_points: int, process_points: int) -> dict[str, float]:
    """Seconds a point, each way once."""
    config = str(folder / "config.py")
    seconds = {}
    whole, _ = timed(["-m", "experiments.sweep", f"--config={config}", f"--workdir={folder / name}-sweep"])
    seconds["one program"] = whole / POINTS
    _, told = timed(["-c", LOOP, config, str(folder / f"{name}-loop"), str(loop_points)])
    seconds["a loop in one process"] = float(told.split()[-1]) / loop_points
    total = 0.0
    for number in range(process_points):
        words = [f"--config.seed={number}", f"--workdir={folder / name}-{number}"]
        total += timed(["-m", "experiments.run", f"--config={config}", *words])[0]
    seconds["a process a point"] = total / process_points
    return seconds


def main() -> None:
    values = flags.FLAGS
    output = checked_output(values.output)
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        write_bank(folder / "bank.npz")
        (folder / "config.py").write_text(CONFIG.format(bank=str(folder / "bank.npz")))
        runs = [measure(folder, str(turn), values.loop_points, values.process_points) for turn in range(values.repeats)]
    ways = {name: float(np.median([run[name] for run in runs])) for name in runs[0]}
    for name, seconds in ways.items():
        ratio = seconds / ways["one program"]
        print(f"{name:24s} {seconds:8.3f} s a point {POINTS * seconds:8.1f} s for {POINTS}   {ratio:6.1f}x")
    write_json(output / "sweep.json", {"points": POINTS, "seconds_a_point": ways, "runs": runs})


if __name__ == "__main__":
    flags.DEFINE_string("output", "runs/benchmarks/sweep", "the folder of the results")
    flags.DEFINE_integer("repeats", 3, "how often each way takes its turn", lower_bound=1)
    flags.DEFINE_integer("loop_points", 8, "points of the loop", lower_bound=1)
    flags.DEFINE_integer("process_points", 4, "processes", lower_bound=1)
    command.run(main)
