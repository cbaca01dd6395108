"""How long a round takes here and with the tools that somebody would pick instead, on the same job, and why.

    python -m experiments.benchmarks.engine --workload=small
    python -m experiments.benchmarks.engine --peers=torch,pfl --scripts=DIR --python=torch=/a/python,pfl=/b/python

Everybody in turn, each in a process of its own: ours, a peer, ours, the next peer, and all of it again. Keys are
compared before times. Writes results.json and engine.png into --output and prints the table. "x ours" is the median
over a peer's turns of its median round over ours in the turn just before. Ours does --rounds_a_call rounds a call of
its program, as a run does between two evaluations, and counts each as its share of the call: "min" is the fastest
call's. Its first round was compiled before.

--scripts names a folder with a script for each peer, which makes the same workload and times its rounds. AdamW and
imagenet are compared with PyTorch alone, by `torch_sequential.py`; the other peers are left out of these. A round's CPU
time counts all threads; Flower's, and its memory, also count the processes that it started.
"""

import os
import pathlib
import platform
import statistics
import sys
from collections.abc import Sequence

from absl import flags

from cachefl_jax.commands import command
from cachefl_jax.errors import UsageError
from cachefl_jax.machine import cores
from cachefl_jax.storage.files import write_json
from experiments.benchmarks import checks, entrants, limits, ours, tables, workloads
from experiments.benchmarks.entrants import Entrant

QUIET_LOAD = 0.5
LIMITS = "experiments.benchmarks.limits"


def define_flags() -> None:
    flags.DEFINE_enum("workload", "all", [*workloads.WORKLOADS, "all"], "what is trained")
    flags.DEFINE_enum("optimizer", "all", [*workloads.OPTIMIZERS, "all"], "the clients' optimizer")
    flags.DEFINE_list("peers", [], f"who else is timed: {', '.join(entrants.SCRIPTS)}")
    flags.DEFINE_string("scripts", None, "the folder with the peers' scripts")
    flags.DEFINE_list("python", [], "an interpreter for each peer, NAME=PATH")
    flags.DEFINE_string("output", "runs/benchmarks/engine", "the folder of the results")
    flags.DEFINE_integer("rounds", 0, "timed rounds; 0 = the workload's own", lower_bound=0)
    flags.DEFINE_integer("repeats", 3, "how often everybody takes a turn", lower_bound=1)
    ours.define_engine_flags()


def chosen(value: str, names: Sequence[str]) -> Sequence[str]:
    return list(names) if value == "all" else [value]


def line_up(workload: str, optimizer: str, folder: pathlib.Path | None, interpreters: dict) -> list[Entrant]:
    """Ours first, then the peers that have this job."""
    rounds = flags.FLAGS.rounds or workloads.WORKLOADS[workload].rounds
    peers = [
        entrant
        for name in flags.FLAGS.peers
        for entrant in entrants.peer(name, interpreters[name], folder, workload, optimizer, rounds)
    ]
    counts = sorted({entrant.rounds + 1 for entrant in peers} | {rounds + 1})
    return [entrants.ours(workload, optimizer, rounds, ours.engine_words(), counts), *peers]


def take_turns(workload: str, optimizer: str, everybody: Sequence[Entrant]) -> dict[str, list[dict]]:
    """A turn of everybody: each run's JSON line by entrant; ours before each peer, every one checked as it comes."""
    mine, *peers = everybody
    results: dict[str, list[dict]] = {entrant.name: [] for entrant in everybody}
    order = [entrant for peer in peers for entrant in (mine, peer)] or [mine]
    for entrant in order:
        print(f"{workload}, {optimizer}: {entrants.LABELS[entrant.name]}", file=sys.stderr, flush=True)
        load = os.getloadavg()[0]
        result = entrants.run(entrants.LABELS[entrant.name], entrant.command, entrant.environment)
        if entrant is mine:
            checks.check_ours(result, workload, optimizer)
        else:
            reference = results["ours"][-1]["after"][str(entrant.rounds + 1)]
            checks.check_peer(entrant.name, result, reference, workload, optimizer)
        results[entrant.name].append(result | {"load_average_before": load})
    return results


def summarise(runs: Sequence[dict], clients: int) -> dict:
    """All runs' rounds together; the first rounds apart; the highest memory of any."""
    seconds = [value for run in runs for value in run["seconds"]]
    cpu = [value for run in runs for value in run["cpu_seconds"] if value is not None]
    median = statistics.median(seconds)
    return {
        "rounds": len(seconds),
        "first_round_s": statistics.median(run["first_round_s"] for run in runs),
        "min_s": min(seconds),
        "median_s": median,
        "clients_per_s": clients / median,
        "cpu_s_per_round": statistics.median(cpu) if cpu else None,
        "peak_bytes": max(run["peak_bytes"] for run in runs),
    }


def times_ours(runs: dict[str, list[dict]], name: str) -> float:
    """How many times as long as ours a peer takes: the median over its turns, each held against ours just before it, so
    that a machine that slows down for a minute slows both."""
    mine, *peers = runs
    if name == mine:
        return 1.0
    before = runs[mine][peers.index(name) :: len(peers)]
    return statistics.median(run["median_s"] / own["median_s"] for run, own in zip(runs[name], before, strict=True))


def compare(workload: str, optimizer: str, everybody: Sequence[Entrant], repeats: int) -> dict:
    """One workload and optimizer: everybody's figures, how many times as long as ours, how near to the limits: those
    that the machine had at the start of each turn, and of the turns the one in the middle."""
    job, near = workloads.WORKLOADS[workload], []
    runs: dict[str, list[dict]] = {entrant.name: [] for entrant in everybody}
    for _ in range(repeats):
        rates = entrants.run("limits", [sys.executable, "-m", LIMITS, f"--workload={workload}"])
        for name, lines in take_turns(workload, optimizer, everybody).items():
            runs[name] += lines
        own = runs["ours"][-(len(everybody) - 1 or 1) :]
        near.append(limits.nearness(job, optimizer, statistics.median(run["median_s"] for run in own), rates))
    rows = {name: summarise(of_one, job.clients) for name, of_one in runs.items()}
    for name, row in rows.items():
        row["times_ours_by_median"] = times_ours(runs, name)
        row["times_ours_by_min"] = row["min_s"] / rows["ours"]["min_s"]
    middle = sorted(near, key=lambda shares: shares["flops_share"])[(repeats - 1) // 2]
    return {"workload": workload, "optimizer": optimizer, "entrants": rows, "limits": middle, "runs": runs}


def checked_output(path: str) -> pathlib.Path:
    """The folder for results. Raises UsageError: a file stands there."""
    folder = pathlib.Path(path).absolute()
    if any(place.exists() and not place.is_dir() for place in (folder, *folder.parents)):
        raise UsageError("--output", path, "a folder, new or not", "name another one")
    return folder


def main() -> None:
    values = flags.FLAGS
    interpreters = entrants.parse_interpreters(values.python)
    folder = entrants.check_peers(values.peers, values.scripts, interpreters)
    output = checked_output(values.output)
    load, jobs = os.getloadavg(), []
    if load[0] > QUIET_LOAD:
        warning = f"load average {load[0]:.2f}: other work is running, and whose threads wait busily suffers most by it"
        print(f"warning: {warning}; times are worth little", file=sys.stderr)
    for workload in chosen(values.workload, list(workloads.WORKLOADS)):
        for optimizer in chosen(values.optimizer, workloads.OPTIMIZERS):
            everybody = line_up(workload, optimizer, folder, interpreters)
            jobs.append(compare(workload, optimizer, everybody, values.repeats))
    machine = {"cores": cores(), "system": platform.platform(), "load_average_at_start": load}
    results = {"machine": machine, "strategy": values.strategy, "jobs": jobs}
    write_json(output / "results.json", results)
    from experiments.benchmarks import picture

    picture.write(output / "engine.png", results)
    print(tables.engine_tables(results))


if __name__ == "__main__":
    define_flags()
    command.run(main)
