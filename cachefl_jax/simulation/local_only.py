"""Trains clients that never aggregate, and says what each comes to: the regimes alone, centralized and fine_tuned.

Clients come in parts, dealt to this process's devices; the host acts about once a second. With several processes each
does all of it: nothing is summed over the clients, and nobody waits for anybody.
"""

import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from cachefl_jax import costs
from cachefl_jax.config import Row
from cachefl_jax.config.rows import row_of
from cachefl_jax.federation import (
    NOBODY,
    LocalTraining,
    Problem,
    Scores,
    figures,
    make_local_only,
    make_scores_of_each,
    place_locally,
    split_by_size,
    start_all,
    tree_bytes,
)
from cachefl_jax.federation.participation import deal
from cachefl_jax.report.units import readable_seconds
from cachefl_jax.simulation.build import Learner, diverged
from cachefl_jax.simulation.finished_clients import FinishedClients
from cachefl_jax.simulation.pace import rounds_a_call
from cachefl_jax.simulation.scores import RIGHT, named

if TYPE_CHECKING:
    from cachefl_jax.simulation.regimes import Run

PARAMS_BYTES = 2**28  # of params on the devices at a time
PART_FLOPS = 4e11  # of a part over all its rounds: seconds of work, which a kill may lose
LANES = {"cpu": 1, "other": 512}  # clients side by side on a device
SECONDS_A_SAVE = 5.0  # between two of finished clients
LONG = 30.0  # seconds from which on the time to come is told
ENOUGH = 1.0  # seconds of training that tell how long the rest takes


class Population(NamedTuple):
    """Clients to be trained, each by itself.

    Attributes:
        local: what a client does in a round; by FedAvg, as other algorithms need a server.
        problem: the federation's arrays, placed on the devices.
        rows: [C] of each client.
        devices: of this process.
        params: what each starts from.
        rounds: the numbers of the rounds that each trains.
    """

    local: LocalTraining
    problem: Problem
    rows: np.ndarray
    devices: int
    params: Any
    rounds: range


class LocalOnly:
    """A population's training under a row's regime; of one client that holds all rows, the model is everybody's."""

    def __init__(self, run: "Run", learner: Learner, row: Row, population: Population):
        config, workdir = run.config, run.workdir
        self.config, self.learner, self.row, self.population = config, learner, row, population
        self.writes, self.alone = workdir.writes, row.regime in ("alone", "fine_tuned")
        self.rounds = len(population.rounds)
        self.splits = learner.score.splits
        kind = "cpu" if jax.default_backend() == "cpu" else "other"
        local, devices, clients = population.local, population.devices, len(population.rows)
        room = PARAMS_BYTES // (tree_bytes(learner.params) * devices)
        self.lanes = max(min(LANES[kind], -(-clients // devices), room), 1)
        self.known = self.known_rows(kind)
        self.train_call = make_local_only(local, self.lanes, devices, self.known)
        self.score = make_scores_of_each(learner.method.logits, devices, learner.score.asks_rows)
        rows, file = [len(split.labels) for split in self.splits], workdir.finished_clients(row)
        after = population.rounds.stop
        self.finished = FinishedClients(file if self.alone else None, clients, rows, after, learner.score.own)
        self.told, self.warm = not self.writes, False
        self.worked = 0.0  # FLOPs of the seconds that this process has trained
        self.trained = 0.0  # those seconds

    def train(self) -> tuple[dict, float | None]:
        """(figures by their names in summary.json, means over the clients that were trained; seconds a round, of all).

        Raises UsageError: a client's training did not stay finite."""
        finished, rounds = self.finished, self.rounds
        try:
            self.train_parts()
        except BaseException:  # a signal among them
            if self.writes:
                finished.write_if_any()
            raise
        seconds = finished.seconds / rounds if rounds else None
        told = {RIGHT: finished.each_row()} if self.learner.score.each_row else {}
        return named(*finished.means(), finished.own) | self.range() | told, seconds

    def known_rows(self, kind: str) -> tuple[int, ...]:
        """Rows of the clients of the only call, where an accelerator gains by knowing them; else ()."""
        local, people = self.population.local, self.population
        if kind == "cpu" or people.devices > 1 or self.lanes < len(people.rows) or local.compact or local.work.alone:
            return ()
        return tuple(np.sort(people.rows)[::-1].tolist())

    def range(self) -> dict:
        """The least and the largest test accuracy of any client."""
        if not self.alone:
            return {}
        accuracies = self.finished.right[0] / len(self.splits[0].labels)
        return {"test_accuracy_min": float(accuracies.min()), "test_accuracy_max": float(accuracies.max())}

    def train_parts(self) -> None:
        """Trains and evaluates who is not finished."""
        people, placed = self.population, place_locally(self.splits, self.population.devices)
        total, saved, hidden = len(people.rows) * self.rounds, time.monotonic(), None if self.writes else True
        with tqdm(total=total, desc=self.row.name, unit="round", leave=False, disable=hidden, delay=2) as bar:
            for part in split_by_size(people.rows, self.most(), self.lanes * people.devices):
                clients = deal(part, people.devices).reshape(-1)
                real = clients[clients != NOBODY]
                if not self.finished.left()[real].any():
                    bar.update(len(real) * self.rounds)
                    continue
                params, seconds = self.train_part(clients, bar)
                scores = jax.device_get(self.score(params, people.problem.frozen, placed))
                scores = jax.tree.map(lambda leaf, kept=clients != NOBODY: leaf[kept], scores)
                self.refuse(real, np.all([each.finite for each in scores], axis=0), people.rounds.stop)
                self.finished.add(real, scores, *self.own(real, scores[0]))
                self.finished.seconds += seconds
                if self.writes and time.monotonic() - saved >= SECONDS_A_SAVE:
                    self.finished.write()
                    saved = time.monotonic()

    def own(self, clients: np.ndarray, test: Scores) -> tuple[np.ndarray, np.ndarray | slice]:
        """(accuracies of the federation's clients on their own rows, which clients these are)."""
        own, told = self.learner.score.own, figures(test)
        if self.alone:
            return own.accuracies(told, test.correct, clients), clients
        first = jax.tree.map(lambda leaf: leaf[0], (told, test.correct))
        return own.accuracies(*first), slice(None)

    def train_part(self, clients: np.ndarray, bar: tqdm):
        """(the clients' params [M, ...] after all rounds, seconds of training)."""
        rounds, real, problem = self.population.rounds, clients[clients != NOBODY], self.population.problem
        self.warm_up(clients)
        params = start_all(self.population.params, len(clients), self.population.devices)
        number, pace, seconds = rounds.start, 1, 0.0
        while number < rounds.stop:
            count, began = min(pace, rounds.stop - number), time.perf_counter()
            params, finite = self.train_call(params, clients, np.int32(number), np.int32(count), problem)
            finite = np.asarray(finite)[clients != NOBODY]
            took = time.perf_counter() - began
            number, pace = number + count, rounds_a_call(took / count)
            self.refuse(real, finite, number)
            seconds, self.trained = seconds + took, self.trained + took
            self.worked += self.training_flops(self.population.rows[real].sum()) * count
            self.tell_time()
            bar.update(count * len(real))
        return params, seconds

    def warm_up(self, clients: np.ndarray) -> None:
        """Compiles, before the clock starts; a program's first round is slow, so the smallest client does one."""
        if self.warm or not self.rounds:
            return
        real, few = clients[clients != NOBODY], np.full_like(clients, NOBODY)
        few[:: len(clients) // self.population.devices] = real[self.population.rows[real].argmin()]
        few = clients if self.known else few
        params = start_all(self.population.params, len(clients), self.population.devices)
        jax.block_until_ready(self.train_call(params, few, np.int32(0), np.int32(1), self.population.problem))
        self.warm = True

    def most(self) -> int:
        """Clients of a part, of the usual size."""
        rounds, rows = max(self.rounds, 1), self.population.rows.mean()
        work = self.training_flops(rows) * rounds + self.evaluation_flops()
        return max(int(min(PARAMS_BYTES // tree_bytes(self.learner.params), PART_FLOPS // work)), 1)

    def training_flops(self, rows: float) -> float:
        """Of a round of so many rows."""
        local = self.population.local
        step = costs.step_flops(local, self.learner.params, self.learner.problem)
        return rows * local.epochs * step / local.batch_size

    def evaluation_flops(self) -> float:
        """Of a client; its products are two of a training step's three."""
        return (
            self.training_flops(sum(len(split.labels) for split in self.splits)) / self.population.local.epochs * 2 / 3
        )

    def tell_time(self) -> None:
        """Says once, where it is long, how long it will take by what it has taken so far, and how to leave it out."""
        if self.told or self.trained < ENOUGH or not self.worked:
            return
        left = self.finished.left()
        work = self.training_flops(self.population.rows[left].sum()) * self.rounds
        expected = (work + left.sum() * self.evaluation_flops()) * self.trained / self.worked
        if expected < LONG:
            return
        self.told = True
        field = "compare" if self.config.compare else "methods"
        others = tuple(word for word in self.config[field] if row_of(self.config.method, word)[1:] != self.row[1:])
        clients = f" for {left.sum():,} clients, each trained by itself" if len(self.population.rows) > 1 else ""
        told = f"{self.row.name}: about {readable_seconds(expected)}{clients}"
        tqdm.write(f'{told}; left out, in a new folder, by --config.{field}="{others}"', file=sys.stderr)

    def refuse(self, clients: np.ndarray, sound: np.ndarray, number: int) -> None:
        """Stops where a client's training has not stayed finite up to round `number`.

        Raises UsageError: the first of them is named."""
        if sound.all():
            return
        who = f"client {clients[~sound].min()} of {self.row.name}" if len(self.population.rows) > 1 else self.row.name
        raise diverged(self.config, self.learner, f"{who}, up to round {number},")
