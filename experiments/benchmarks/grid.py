"""What programs of many points save: a grid of a bank as a sweep beside runs, and a study beside a sweep by hand.

    python -m experiments.benchmarks.grid --bank=BANK.npz --output=DIR

The grid is `feature_bank`'s, alpha x beta x rate at --grid values each: 216 points at 6. In turn, --repeats times:

    sweep       `experiments.sweep` of the whole grid, from its start to its end, compiling included
    processes   `experiments.run`, one process a point
    simulate    `cachefl_jax.simulate` without a folder, point after point in one process
    engine      one warm engine for all points, in one process: training and evaluation alone
    study       `experiments.study` of one row by --seeds seeds and as many runs as the grid has points
    by hand     the same trainings by `experiments.benchmarks.by_hand`

The three ways of a run do --sample points, drawn from the grid, with all their programs in the store already; the
whole grid is taken to cost as much a point. Study and by hand each compile all of theirs. Writes grid.json: seconds
of the clock and of all cores, a point.
"""

import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np
from absl import flags

from cachefl_jax.commands import command
from cachefl_jax.errors import UsageError
from cachefl_jax.storage.files import write_json
from cachefl_jax.study.folder import RUNS, read_lines
from experiments.benchmarks.engine import checked_output
from experiments.benchmarks.sweep import write_bank

GRID = {
    "cache.alpha": (10.0, 1.0, 3.0, 0.3, 30.0, 100.0),
    "cache.beta": (1.0, 5.0, 2.0, 0.5, 10.0, 20.0),
    "local.learning_rate": (3e-3, 1e-3, 1e-2, 3e-4, 3e-2, 1e-4),
}
CONFIG = """
import itertools
from cachefl_jax.configs import feature_bank

def get_config():
    config = feature_bank.get_config()
    config.local.optimizer = "adamw"
    config.data.path, config.compare, config.rounds = {bank!r}, ("cachefl",), {rounds}
    config.eval_every = config.checkpoint_every = {rounds}
    config.study.budget, config.study.seeds, config.study.tuning_seeds = {budget}, {seeds}, {seeds}
    return config

def sweep(add):
    for values in itertools.product(*{grid!r}.values()):
        add(**dict(zip({grid!r}, values)))
"""
WAYS = ("sweep", "processes", "simulate", "engine", "study", "by hand")
BESIDE = dict.fromkeys(WAYS[1:4], "sweep") | {"study": "by hand"}  # what each is divided by
SAME = 1e-6  # of accuracies
CLOCKS = ("seconds", "cpu_seconds")


class Turn:
    """One turn of every way, in a folder of its own."""

    def __init__(self, folder: pathlib.Path, config: str, points: list[int]):
        self.folder, self.config, self.points = folder, config, points  # numbers of the points that are sampled
        folder.mkdir()

    def timed(self, store: str, *words: str) -> tuple[np.ndarray, str]:
        """((seconds of the clock, of all cores), what was printed) of a Python command, whose store is `store`."""
        environment = {**os.environ, "CACHEFL_HOME": str(self.folder / store)}
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(
            [sys.executable, *words], env=environment, capture_output=True, text=True, check=False, cwd=os.getcwd()
        )
        seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            told = (done.stderr.splitlines() or [f"status {done.returncode}"])[-1]
            raise UsageError("--bank", self.config, "one on which all ways run", f"see to it: {told}")
        busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return np.asarray([seconds, busy]), done.stdout

    def command(self, store: str, name: str, folder: str, *words: str) -> np.ndarray:
        """The seconds of a command in a folder."""
        named = (f"--config={self.config}", f"--workdir={self.folder / folder}")
        return self.timed(store, "-m", f"experiments.{name}", *named, *words)[0]

    def sweep(self) -> np.ndarray:
        """A point's seconds, as of all the others."""
        whole = self.command("sweep", "sweep", "sweep")
        return whole / len((self.folder / "sweep" / "results.jsonl").read_text().splitlines())

    def processes(self) -> np.ndarray:
        self.command("runs", "run", "first")  # after which the store has the program
        total, grid = np.zeros(2), values_of_grid(self.config)
        for number in self.points:
            words = (f"--config.{field}={value}" for field, value in grid[number].items())
            total += self.command("runs", "run", str(number), *words)
        return total / len(self.points)

    def one_by_one(self, way: str) -> np.ndarray:
        words = (way, self.config, *map(str, self.points))
        told = self.timed("runs", "-m", "experiments.benchmarks.one_by_one", *words)[1]
        return np.asarray(json.loads(told.splitlines()[-1]))

    def study(self) -> tuple[np.ndarray, np.ndarray]:
        """(of the study, by hand), which must come to the same accuracies."""
        study = self.command("study", "study", "study")
        lines = read_lines(self.folder / "study" / RUNS)
        file = self.folder / "points.json"
        write_json(file, [{"seed": key.seed, "values": line["values"]} for key, line in lines.items()])
        by_hand, told = self.timed("by hand", "-m", "experiments.benchmarks.by_hand", self.config, str(file))
        # None where training did not stay finite.
        pairs = zip([line["entry"]["test_accuracy"] for line in lines.values()], json.loads(told), strict=True)
        if not all(theirs is None or abs(theirs - own) < SAME for theirs, own in pairs):
            raise UsageError("--bank", self.config, "one on which a study trains what a sweep by hand does", "tell us")
        return study / len(lines), by_hand / len(lines)

    def measure(self) -> dict[str, dict[str, float]]:
        """Seconds a point of every way."""
        found = {"sweep": self.sweep(), "processes": self.processes()}
        found |= {way: self.one_by_one(way) for way in ("simulate", "engine")}
        found["study"], found["by hand"] = self.study()
        return {way: dict(zip(CLOCKS, told.tolist(), strict=True)) for way, told in found.items()}


def values_of_grid(config: str) -> list[dict]:
    """The values of every point of the grid in a config file."""
    from cachefl_jax.commands.sweep import points

    return points(config)


def tell(turns: list[dict], points: int) -> dict[str, dict[str, float]]:
    """The medians over the turns; prints them, with the medians of the ratios that are asked for."""
    medians = {
        way: {clock: float(np.median([turn[way][clock] for turn in turns])) for clock in CLOCKS} for way in turns[0]
    }
    for way, told in medians.items():
        line = f"{way:10s} {told['seconds']:8.3f} s a point ({told['cpu_seconds']:.3f} of all cores)"
        if beside := BESIDE.get(way):
            ratios = [np.median([turn[way][clock] / turn[beside][clock] for turn in turns]) for clock in CLOCKS]
            line += f", {ratios[0]:.2f} times {beside} ({ratios[1]:.2f})"
        print(f"{line}; {points * told['seconds']:.0f} s for {points}")
    return medians


def main() -> None:
    values = flags.FLAGS
    output = checked_output(values.output)
    grid = {field: choices[: values.grid] for field, choices in GRID.items()}
    points = values.grid ** len(grid)
    drawn = np.random.default_rng(0).choice(points, min(values.sample, points), replace=False).tolist()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        bank = pathlib.Path(values.bank or folder / "bank.npz").absolute()
        if not values.bank:
            write_bank(bank)
        fields = {"bank": str(bank), "rounds": values.rounds, "seeds": values.seeds, "grid": grid}
        (folder / "config.py").write_text(CONFIG.format(budget=points // values.seeds, **fields))
        turns = [
            Turn(folder / str(number), str(folder / "config.py"), drawn).measure() for number in range(values.repeats)
        ]
    write_json(output / "grid.json", {"points": points, "a_point": tell(turns, points), "turns": turns})


if __name__ == "__main__":
    flags.DEFINE_string("bank", None, "a feature bank with validation rows; without it the small workload")
    flags.DEFINE_string("output", "runs/benchmarks/grid", "the folder of the results")
    flags.DEFINE_integer("grid", 6, "values of each of three fields", lower_bound=1, upper_bound=6)
    flags.DEFINE_integer("rounds", 20, "rounds of a point", lower_bound=1)
    flags.DEFINE_integer("sample", 12, "points that run as runs do", lower_bound=1)
    flags.DEFINE_integer("seeds", 3, "of the study", lower_bound=1)
    flags.DEFINE_integer("repeats", 3, "how often each way takes its turn", lower_bound=1)
    command.run(main)
