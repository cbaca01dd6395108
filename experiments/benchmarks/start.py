"""How soon a command trains: seconds from its start to the end of the first round, the first time and the second.

    python -m experiments.benchmarks.start

The demo's command, twice, each in a new folder with a store that was empty before the first: the first compiles, and
draws the synthetic images; the second finds both.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import time

from absl import flags

from cachefl_jax.commands import command

WAIT = 0.01
LONGEST = 240  # seconds of a whole demo


def seconds_to_first_round(workdir: pathlib.Path, words: list[str], environment: dict[str, str]) -> float:
    """From the process's start until the line of round 1 is there; the run is then stopped."""
    began = time.perf_counter()
    process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    metrics = workdir / "metrics.jsonl"
    while process.poll() is None and not (metrics.is_file() and metrics.read_bytes().count(b"\n") > 1):
        time.sleep(WAIT)
    seconds = time.perf_counter() - began
    process.kill()
    process.wait()
    return seconds


def whole_demo(tiny: bool) -> dict[str, float]:
    """Seconds of the demo's command from its start to its end, the first time and the second; `tiny`: its variant
    'smoke'."""
    config = f"experiments/configs/digits.py{':smoke' if tiny else ''}"
    with tempfile.TemporaryDirectory() as temporary:
        folder, found = pathlib.Path(temporary), {}
        places = {"CACHEFL_HOME": str(folder / "store"), "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        for name in ("first", "second"):
            words = [sys.executable, "-m", "experiments.run", f"--config={config}", f"--workdir={folder / name}"]
            began = time.perf_counter()
            subprocess.run(words, env=os.environ | places, check=True, capture_output=True, timeout=LONGEST)
            found[f"{name}_s"] = time.perf_counter() - began
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        environment = os.environ | {"CACHEFL_HOME": str(folder / "store")}
        for number, name in enumerate(("first", "second", "third")):
            workdir = folder / str(number)
            words = [sys.executable, "-m", "experiments.run", f"--config={flags.FLAGS.of}", f"--workdir={workdir}"]
            words += ["--config.methods=('cachefl',)"]
            print(f"{name} start: {seconds_to_first_round(workdir, words, environment):.1f} s to the end of round 1")


if __name__ == "__main__":
    flags.DEFINE_string("of", "experiments/configs/digits.py", "the config file")
    command.run(main)
