"""Runs somebody's benchmark script as it is, and reads what it does not tell: every round, CPU time, memory.

    PYTHONPATH=.:SCRIPTS /path/to/python -m experiments.benchmarks.peer SCRIPT WORKLOAD ROUNDS [--children]

The script stands beside a `common.py` with `CFG`, `make` and `report(tag, name, first, steady, keys)`, and times its
rounds by `time.perf_counter`. Each such call notes the CPU time too, so that a round's is the difference between the
two calls that made its seconds. With --children the processes that the script has started count as well.
"""

import contextlib
import itertools
import json
import os
import pathlib
import runpy
import sys
import time

import numpy as np

from experiments.benchmarks import readings, workloads

CLOCK = time.perf_counter


def descendants() -> list[pathlib.Path]:
    """The folders in /proc of all processes below this one."""
    parents = {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has just ended
            continue
    found, layer = [], {os.getpid()}
    while layer:
        layer = {process for process, parent in parents.items() if parent in layer}
        found += [pathlib.Path("/proc", str(process)) for process in layer]
    return found


def read_all(folders: list[pathlib.Path], name: str) -> list[str]:
    """This file of every process that is still there."""
    texts = []
    for folder in folders:
        with contextlib.suppress(OSError):  # it has just ended
            texts.append((folder / name).read_text())
    return texts


def children_cpu(folders: list[pathlib.Path]) -> float:
    fields = [text.rpartition(")")[2].split() for text in read_all(folders, "stat")]
    return sum(int(each[11]) + int(each[12]) for each in fields) / os.sysconf("SC_CLK_TCK")


def children_memory(folders: list[pathlib.Path]) -> int:
    """Memory shared between processes counted once, in bytes."""
    lines = [line for text in read_all(folders, "smaps_rollup") for line in text.splitlines()]
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


class Marks:
    """Stands in for `time.perf_counter`; only the script's own calls are noted."""

    def __init__(self, children: bool):
        self.children, self.times, self.cpu, self.memory = children, [], [], 0

    def __call__(self) -> float:
        if sys._getframe(1).f_globals.get("__name__") != "__main__":
            return CLOCK()
        cpu = time.process_time()
        if self.children:
            below = descendants()
            cpu += children_cpu(below)
            self.memory = max(self.memory, children_memory(below))
        self.cpu.append(cpu)
        self.times.append(CLOCK())
        return self.times[-1]

    def cpu_between(self, seconds: float) -> float | None:
        """The CPU time between the two calls that lie exactly so far apart."""
        pairs = itertools.combinations(range(len(self.times)), 2)
        near = (pair for pair in pairs if self.times[pair[1]] - self.times[pair[0]] == seconds)
        first, last = next(near, (None, None))
        return None if first is None else self.cpu[last] - self.cpu[first]


def main() -> None:
    script, name, rounds, *rest = sys.argv[1:]
    import common

    marks = Marks("--children" in rest)
    common.CFG[name]["rounds"] = int(rounds)

    def report(tag, name, first, steady, keys) -> None:
        seconds = [float(value) for value in (first, *steady)]
        cpu = [marks.cpu_between(value) for value in seconds]
        memory = readings.peak_bytes() + marks.memory
        start = workloads.make(workloads.WORKLOADS[name]).keys
        told = {"tag": tag, "workload": name, "optimizer": "sgd", "rounds": len(steady), "peak_bytes": memory}
        found = readings.timing(seconds, cpu) | workloads.fingerprint(np.asarray(keys), start)
        print(json.dumps(told | found), flush=True)

    common.report, time.perf_counter = report, marks
    sys.argv = [script, name]
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
