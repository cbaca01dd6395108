"""Who is timed: ours and the peers that the user named, each as a command line for a process of its own."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cachefl_jax.errors import UsageError

ROOT = pathlib.Path(__file__).parents[2]
SCRIPTS = {"torch": "bench_torch.py", "pfl": "bench_pfl.py", "flwr": "bench_flwr.py", "drjax": "bench_drjax.py"}
SCRIPTED = ("small", "large")  # the workloads that the peers' scripts know, by SGD alone
LABELS = {
    "ours": "cachefl_jax",
    "torch": "PyTorch, client by client",
    "torch_sums": "PyTorch, class sums",
    "pfl": "pfl (PyTorch)",
    "flwr": "Flower (Ray)",
    "drjax": "DrJAX",
}
FEW_ROUNDS = {"flwr": 3}  # a round of it takes seconds
QUIET = {"FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0"}
TIME_LIMIT = 3600  # seconds


class Entrant(NamedTuple):
    name: str
    command: list[str]
    environment: dict[str, str]
    rounds: int


def parse_interpreters(pairs: Sequence[str]) -> dict[str, str]:
    """["torch=/x/python", ...] -> {"torch": "/x/python"}.

    Raises UsageError: no pair, an unknown peer, or a file that cannot be run."""
    found = {}
    for pair in pairs:
        name, _, path = pair.partition("=")
        check_peer("--python", name)
        program = shutil.which(path) if path else None
        if program is None:
            raise UsageError(f"--python={name}", path or "nothing", "a Python interpreter", "correct the path")
        found[name] = os.path.abspath(program)  # links kept: they are what makes it a virtual environment's
    return found


def check_peers(peers: Sequence[str], scripts: str | None, interpreters: Mapping[str, str]) -> pathlib.Path | None:
    """The folder of the scripts, made absolute, once all that the named peers need is there.

    Raises UsageError: an unknown peer, one without interpreter, or a folder without its script."""
    folder = None if scripts is None else pathlib.Path(scripts).absolute()
    for peer in peers:
        check_peer("--peers", peer)
        if peer not in interpreters:
            mend = f"add --python={peer}=/path/to/python"
            raise UsageError("--python", f"nothing for {peer}", "an interpreter that has it installed", mend)
        if folder is None and peer != "torch":
            raise UsageError("--scripts", "nothing", f"a folder with {SCRIPTS[peer]}", "add --scripts=DIR")
        for needed in (SCRIPTS[peer], "common.py"):
            if folder is not None and not (folder / needed).is_file():
                raise UsageError("--scripts", f"{scripts}, without {needed}", "the peers' folder", "correct the path")
    return folder


def check_peer(flag: str, name: str) -> None:
    if name not in SCRIPTS:
        raise UsageError(flag, name or "nothing", " | ".join(SCRIPTS), "correct the name")


def ours(workload: str, optimizer: str, rounds: int, engine: Sequence[str], key_sums: Sequence[int]) -> Entrant:
    """This package, told to give its key sum after each of `key_sums` rounds too."""
    flags = [f"--workload={workload}", f"--optimizer={optimizer}", f"--rounds={rounds}", *engine]
    flags += [f"--key_sums={number}" for number in key_sums]
    return Entrant("ours", [sys.executable, "-m", "experiments.benchmarks.ours", *flags], {}, rounds)


def peer(
    name: str, interpreter: str, folder: pathlib.Path | None, workload: str, optimizer: str, rounds: int
) -> list[Entrant]:
    """The peer on that workload; none where there is no script for it. PyTorch's own script comes in two forms."""
    rounds = min(rounds, FEW_ROUNDS.get(name, rounds))
    if folder is not None and optimizer == "sgd" and workload in SCRIPTED:
        words = ["experiments.benchmarks.peer", str(folder / SCRIPTS[name]), workload, str(rounds)]
        words += ["--children"] if name == "flwr" else []
        paths = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)])}
        return [Entrant(name, [interpreter, "-m", *words], paths | QUIET | {"ROUNDS": str(rounds)}, rounds)]
    if name != "torch":
        return []
    words = [f"--workload={workload}", f"--optimizer={optimizer}", f"--rounds={rounds}"]
    command = [interpreter, "-m", "experiments.benchmarks.torch_sequential", *words]
    place = {"PYTHONPATH": str(ROOT)}
    return [Entrant(name, command, place, rounds), Entrant("torch_sums", [*command, "--sums"], place, rounds)]


def run(name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> dict:
    """The last JSON line that the process prints. Raises UsageError: it failed, took too long, or printed none."""
    alone = f"run it alone: {' '.join(command)}"
    try:
        options = {"capture_output": True, "text": True, "timeout": TIME_LIMIT, "check": False}
        done = subprocess.run(command, cwd=ROOT, env=os.environ | (environment or {}), **options)
    except subprocess.TimeoutExpired as error:
        raise UsageError(name, f"no end after {TIME_LIMIT} s", "a process that ends", alone) from error
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UsageError(name, f"status {done.returncode} ({last})", "a process that prints its JSON line", alone)
    return json.loads(lines[-1])
