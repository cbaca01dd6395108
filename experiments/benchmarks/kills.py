"""Kills runs at random moments, lets the same command go on, and compares what they end in with an undisturbed run.

    python -m experiments.benchmarks.kills --times=100
    python -m experiments.benchmarks.kills --times=0 --starts=20

A run on the digits, on a feature bank and on an image folder in turn is killed (SIGKILL, its whole process group) at a
moment drawn from the time that an undisturbed one takes, and what goes on from there is killed once more. It must end
in the same bytes of cache.safetensors, cache_init.safetensors and partition.npz, in the same metrics and summary but
for times, and leave nothing half-written. Each has a store (CACHEFL_HOME) of its own, but for compiled programs and the
digits' features and drawn images. A command starts with its imports done, so that moments fall into its work.

--starts starts two commands on one folder, up to two seconds apart: one must end well and whole, the other leave with
status 2 and one line that names the first.

Exit status 1 where something was otherwise; its folder then stays, and is named.
"""

import contextlib
import itertools
import json
import multiprocessing
import os
import pathlib
import random
import runpy
import shutil
import signal
import sys
import tempfile
import time
from typing import NamedTuple

from absl import flags

from cachefl_jax.commands import command
from cachefl_jax.errors import UsageError
from experiments.benchmarks.victims import COMMON, VICTIMS

# Imports that take long and may be done before a command begins: none starts JAX's backends or any thread.
HEAVY = ("clip.encoder", "simulation.train", "simulation.server_set", "simulation.encoded")
FORKS = multiprocessing.get_context("forkserver")
SHARED = {"digits": ("features", "synthetic")}  # of the store: it takes long, and images go the same way
SAME = ("cache.safetensors", "cache_init.safetensors", "partition.npz")
TWICE = 2  # kills of one run
APART, LEAST_APART = 2.0, 0.1  # seconds between two starts, at most and, but for none, at least


class Victim(NamedTuple):
    """A run as it is when nobody disturbs it."""

    name: str
    words: list[str]
    store: pathlib.Path  # of which its kind shares parts
    end: dict  # what it ends in
    seconds: float


class Place(NamedTuple):
    """Where one run works."""

    folder: pathlib.Path

    @property
    def workdir(self) -> pathlib.Path:
        return self.folder / "run"

    @property
    def log(self) -> pathlib.Path:
        return self.folder / "log"

    def start(self, words: list[str], log: pathlib.Path | None = None) -> multiprocessing.Process:
        """Starts the command in a process that has its imports, and prints into `log`."""
        given = ["experiments.run", *words, *COMMON, f"--workdir={self.workdir}"]
        process = FORKS.Process(target=become, args=(given, str(self.folder / "store"), log or self.log))
        process.start()
        return process

    def run(self, words: list[str]) -> int:
        """The exit status of the command, once it has ended."""
        process = self.start(words)
        process.join()
        return process.exitcode


def become(words: list[str], store: str, log: pathlib.Path) -> None:
    """Makes this process `python -m WORDS`, in a process group of its own, which can be killed whole."""
    os.setsid()
    with log.open("wb") as file:
        for target in (1, 2):
            os.dup2(file.fileno(), target)
    os.environ["CACHEFL_HOME"], sys.argv = store, words
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)


def main() -> None:
    values = flags.FLAGS
    for name in values.kinds:
        if name not in VICTIMS:
            raise UsageError("--kinds", name, " | ".join(VICTIMS), "correct the name")
    draw = random.Random(values.seed)
    root = pathlib.Path(tempfile.mkdtemp(prefix="kills-"))
    # One path for all: it is part of what a program is found by.
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(root / "compiled")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    FORKS.set_forkserver_preload([f"cachefl_jax.{module}" for module in HEAVY])
    victims = [undisturbed(name, root / name) for name in values.kinds]
    killed = kill_all(victims, values.times, draw, root)
    started = start_all(victims, values.starts, draw, root)
    if killed and started:
        shutil.rmtree(root)
    else:
        print(f"what went wrong lies in {root}", file=sys.stderr)
        sys.exit(1)


def undisturbed(name: str, folder: pathlib.Path) -> Victim:
    """Makes a kind's data, and runs it twice: once to compile and draw, once to measure."""
    folder.mkdir()
    words = VICTIMS[name](folder)
    first = Place(folder.with_name(f"{name}-first"))
    first.folder.mkdir()
    run_to_end(first, words)
    second = set_up(folder.with_name(f"{name}-second"), name, first.folder / "store")
    began = time.monotonic()
    run_to_end(second, words)
    seconds = time.monotonic() - began
    print(f"{name}: {seconds:.1f} s undisturbed", file=sys.stderr, flush=True)
    return Victim(name, words, first.folder / "store", end_of(second), seconds)


def set_up(folder: pathlib.Path, name: str, store: pathlib.Path) -> Place:
    """An empty place for a run, in whose store is what its kind shares of another."""
    (folder / "store").mkdir(parents=True)
    for part in SHARED.get(name, ()):
        (folder / "store" / part).symlink_to(store / part)
    return Place(folder)


def run_to_end(place: Place, words: list[str]) -> None:
    if status := place.run(words):
        raise RuntimeError(f"exit status {status}: {place.log.read_text()[-2000:]}")


def kill_all(victims: list[Victim], times: int, draw: random.Random, root: pathlib.Path) -> bool:
    """Kills so many times, each kind in turn; prints how many ended as they should. Whether all did."""
    landed, sound = dict.fromkeys((victim.name for victim in victims), 0), 0
    for number, victim in enumerate(itertools.cycle(victims)):
        left = times - sum(landed.values())
        if left <= 0:
            break
        place = set_up(root / f"kill{number:03d}", victim.name, victim.store)
        kills, wrong = kill_and_compare(victim, place, min(left, TWICE), draw)
        landed[victim.name] += kills
        sound += kills * put_away(victim, place, wrong)
    if times:
        counts = ", ".join(f"{name} {count}" for name, count in landed.items())
        print(f"killed {sum(landed.values())} times ({counts}): {sound} of {sum(landed.values())} ended the same")
    return sound == sum(landed.values())


def put_away(victim: Victim, place: Place, wrong: str) -> bool:
    """Removes the place of a run that ended as it should, and tells what is wrong with another. Whether it ended so."""
    if wrong:
        print(f"{victim.name}: {wrong} ({place.folder})", file=sys.stderr, flush=True)
    else:
        shutil.rmtree(place.folder)
    return not wrong


def kill_and_compare(victim: Victim, place: Place, kills: int, draw: random.Random) -> tuple[int, str]:
    """(the kills that met the run alive, what is wrong with its end; empty if nothing is)."""
    landed, status = 0, -signal.SIGKILL
    while landed < kills and status == -signal.SIGKILL:
        process = place.start(victim.words)
        time.sleep(draw.uniform(0, victim.seconds))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.join()
        status = process.exitcode
        landed += status == -signal.SIGKILL
    if status == -signal.SIGKILL:
        status = place.run(victim.words)
    if status:
        return landed, f"exit status {status}: {place.log.read_text().strip()[-500:]}"
    return landed, difference(end_of(place), victim.end) or remains(place)


def end_of(place: Place) -> dict:
    """All that two runs must have in common."""
    lines = (place.workdir / "metrics.jsonl").read_text().splitlines()
    summary = json.loads((place.workdir / "summary.json").read_text())
    for method in summary["methods"].values():
        del method["seconds_per_round"]
    return {
        **{name: (place.workdir / name).read_bytes() for name in SAME},
        "metrics.jsonl": [{**json.loads(line), "seconds": None} for line in lines],
        "summary.json": summary,
    }


def difference(mine: dict, theirs: dict) -> str:
    """The files in which two ends differ."""
    names = [name for name in theirs if mine[name] != theirs[name]]
    return f"other content in {', '.join(names)}" if names else ""


def remains(place: Place) -> str:
    """What is left half-written in the run's folder or its store."""
    found = [path.name for path in place.workdir.rglob(".*")]
    store = place.folder / "store"
    found += [path.name for kind in store.iterdir() if not kind.is_symlink() for path in kind.rglob(".*")]
    return f"left behind: {', '.join(sorted(found))}" if found else ""


def start_all(victims: list[Victim], times: int, draw: random.Random, root: pathlib.Path) -> bool:
    """Starts two commands on one folder, so many times; prints how often one won and the other was told."""
    sound = 0
    for number, victim in zip(range(times), itertools.cycle(victims)):
        place = set_up(root / f"start{number:03d}", victim.name, victim.store)
        wrong = start_two(victim, place, draw.uniform(0, min(APART, 0.8 * victim.seconds)))
        sound += put_away(victim, place, wrong)
    if times:
        print(f"two commands on one folder, {times} times: {sound} of {times} as it should be")
    return sound == times


def start_two(victim: Victim, place: Place, apart: float) -> str:
    """What is wrong when two commands start on one folder; empty if nothing is."""
    logs = [place.folder / "first.log", place.folder / "second.log"]
    processes = []
    for log in logs:
        processes.append(place.start(victim.words, log))
        time.sleep(apart if log == logs[0] else 0)
    for process in processes:
        process.join()
    texts = [log.read_text().strip() for log in logs]
    ends = sorted(zip((process.exitcode for process in processes), texts, strict=True))
    (won, first), (lost, told) = ends
    if (won, lost) == (0, 0) and "already done" in first + told and apart:  # the first was faster than expected
        shutil.rmtree(place.workdir)
        return start_two(victim, place, apart / 2 if apart > LEAST_APART else 0)
    if (won, lost) != (0, 2):
        return f"exit status {won} and {lost}, {apart:.2f} s apart: {told[-500:]}"
    if len(told.splitlines()) != 1 or "in use by process" not in told:
        return f"the other was told {told!r}"
    return difference(end_of(place), victim.end) or remains(place)


if __name__ == "__main__":
    flags.DEFINE_integer("times", 100, "kills, over all kinds", lower_bound=0)
    flags.DEFINE_integer("starts", 0, "pairs of commands on one folder, over all kinds", lower_bound=0)
    flags.DEFINE_list("kinds", list(VICTIMS), f"of what runs are: {', '.join(VICTIMS)}")
    flags.DEFINE_integer("seed", 0, "of the moments", lower_bound=0)
    command.run(main)
