"""How a round's cost grows: with clients, classes, local epochs, and with clients of unequal size.

    python -m experiments.benchmarks.scaling --strategy=auto --output=DIR

Every point is a process of its own and so has its own memory; the points of a table take turns, as often as --repeats
says. Writes scaling.json into --output and prints the tables. "Memory beyond the data" is the highest of the timed
rounds less what was held before the first one, when data, Gram matrices and keys lay on the device.

The table of clients is the small workload with more of them; 100,000 have 8 rows each instead of 64, so that the data
fit. In the table of populations 1,000 clients of 2 rows take part in a round.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from absl import flags

from cachefl_jax.commands import command
from cachefl_jax.storage.files import write_json
from experiments.benchmarks import engine, entrants, ours, tables, workloads

MOST_CLIENTS = {"clients": 100_000, "samples": 8, "batch": 8}
POPULATION = {"width": 64, "samples": 2, "batch": 2}
COHORT = 1000
CLASSES = {"clients": 10, "keys": 16, "width": 512, "samples": 32, "batch": 32}


class Point(NamedTuple):
    name: str
    clients: int  # that take part in a round
    words: list[str]  # of the command line of `ours`


class Table(NamedTuple):
    name: str
    title: str
    points: list[Point]


def changed(name: str, base: str, changes: Mapping[str, int], split: str = "equal") -> Point:
    """A workload with some sizes replaced."""
    words = [f"--workload={base}", f"--split={split}", *(f"--{field}={value}" for field, value in changes.items())]
    taking_part = changes.get("cohort") or changes.get("clients", workloads.WORKLOADS[base].clients)
    return Point(name, taking_part, words)


def plan(largest: int) -> list[Table]:
    """All tables; no point has more clients or classes than `largest`, where that is not 0."""

    def sizes(*counts: int) -> list[int]:
        return [count for count in counts if not largest or count <= largest]

    clients = [changed(f"{count:,}", "small", {"clients": count}) for count in sizes(10, 100, 1000, 10_000)]
    clients += [changed(f"{count:,} of 8 rows", "small", MOST_CLIENTS) for count in sizes(100_000)]
    populations = [
        changed(f"{count:,}", "small", POPULATION | {"clients": count, "cohort": COHORT})
        for count in sizes(10_000, 100_000, 1_000_000)
    ]
    classes = [changed(f"{count:,}", "small", CLASSES | {"classes": count}) for count in sizes(10, 100, 1000, 10_000)]
    epochs = [
        changed(f"{base}, {count}", base, {"epochs": count}) for base in ("small", "large") for count in (1, 2, 5, 10)
    ]
    splits = [
        changed(f"{base}, {'equal' if split == 'equal' else f'Dirichlet {ours.CONCENTRATION}'}", base, {}, split)
        for base in ("small", "large")
        for split in ours.SPLITS
    ]
    return [
        Table("clients", "clients (64 rows each, 160 keys, 512 features)", clients),
        Table("populations", "population (cohorts of 1,000 clients of 2 rows, 160 keys, 64 features)", populations),
        Table("classes", "classes (16 keys each, 512 features, 10 clients)", classes),
        Table("epochs", "local epochs", epochs),
        Table("splits", "the same rows, dealt out", splits),
    ]


def measure(table: Table, rounds: int, repeats: int, optimizer: str) -> list[dict]:
    """The points of a table, in turn."""
    runs: dict[str, list[dict]] = {point.name: [] for point in table.points}
    settings = [*ours.engine_words(), f"--optimizer={optimizer}", f"--rounds={rounds}"]
    for point in table.points * repeats:
        print(f"{table.name}: {point.name}", file=sys.stderr, flush=True)
        words = [sys.executable, "-m", "experiments.benchmarks.ours", *point.words, *settings]
        runs[point.name].append(entrants.run(f"{table.name} {point.name}", words))
    return [summarise(point, runs[point.name]) for point in table.points]


def summarise(point: Point, runs: Sequence[dict]) -> dict:
    beyond = [run["beyond_data_bytes"] for run in runs if run["beyond_data_bytes"] is not None]
    told = {"name": point.name, "clients": point.clients, "largest_client": runs[0]["largest_client"]}
    told |= engine.summarise(runs, point.clients)
    told["seconds_a_client"] = told["median_s"] / point.clients
    return told | {"beyond_data_bytes": max(beyond) if beyond else None}


def main() -> None:
    values = flags.FLAGS
    output = engine.checked_output(values.output)
    tables_done = {}
    for table in plan(values.largest):
        points = measure(table, values.rounds, values.repeats, values.optimizer)
        tables_done[table.name] = {"title": table.title, "points": points}
        print(tables.scaling_table(table.title, points) + "\n", flush=True)
    told = {"strategy": values.strategy, "optimizer": values.optimizer, "tables": tables_done}
    write_json(output / "scaling.json", told)


if __name__ == "__main__":
    flags.DEFINE_enum("optimizer", "sgd", workloads.OPTIMIZERS, "the clients' optimizer")
    flags.DEFINE_string("output", "runs/benchmarks/scaling", "the folder of the results")
    flags.DEFINE_integer("rounds", 10, "timed rounds of each run", lower_bound=1)
    flags.DEFINE_integer("repeats", 3, "how often every point takes its turn", lower_bound=1)
    flags.DEFINE_integer("largest", 0, "leave out points with more clients or classes; 0 = none", lower_bound=0)
    ours.define_engine_flags()
    command.run(main)
