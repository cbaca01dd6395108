"""Trains clients each for itself and says what each comes to: `local_only` and `centralized`, whole runs long.

Clients come in parts, dealt to this process's devices; the host acts about once a second. With several processes each
does all of it: nothing is summed over the clients, and nobody waits for anybody.
"""

import pathlib
import sys
import time
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from cachefl_jax import costs
from cachefl_jax.federation import (
    NOBODY,
    LocalTraining,
    Problem,
    Scores,
    fedavg,
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
from cachefl_jax.simulation.scores import named

PARAMS_BYTES = 2**28  # of params on the devices at a time
PART_FLOPS = 4e11  # of a part over all its rounds: seconds of work, which a kill may lose
LANES = {"cpu": 1, "other": 64}  # clients side by side on a device
SECONDS_A_SAVE = 5.0  # between two of finished clients
LONG = 30.0  # seconds from which on the time to come is told
ENOUGH = 1.0  # seconds of training that tell how long the rest takes


class Job(NamedTuple):
    """Clients to be trained, each for itself.

    Attributes:
        name: of the method.
        local: what a client does in a round.
        problem: the federation's arrays, placed on the devices.
        rows: [C] of each client.
        devices: of this process.
        file: where finished clients are saved; None: nowhere.
        tells: whether this process is the one that shows progress and writes.
        alone: each client has a model of its own; else the one that is trained here is all clients'.
    """

    name: str
    local: LocalTraining
    problem: Problem
    rows: np.ndarray
    devices: int
    file: pathlib.Path | None
    tells: bool
    alone: bool


class Separate:
    """A job at work."""

    def __init__(self, config: ConfigDict, learner: Learner, job: Job):
        self.config, self.learner, self.job = config, learner, job
        self.splits = learner.score.splits
        kind = "cpu" if jax.default_backend() == "cpu" else "other"
        room = PARAMS_BYTES // (tree_bytes(learner.params) * job.devices)
        self.lanes = max(min(LANES[kind], -(-len(job.rows) // job.devices), room), 1)
        self.train = make_local_only(job.local._replace(work=fedavg), self.lanes, job.devices)
        self.score = make_scores_of_each(learner.method.logits, job.devices, learner.score.own.dealt)
        rows = [len(split.labels) for split in self.splits]
        self.finished = FinishedClients(job.file, len(job.rows), rows, config.rounds, learner.score.own)
        self.told, self.warm = not job.tells, False
        self.worked = 0.0  # FLOPs of the seconds that this process has trained
        self.trained = 0.0  # those seconds

    def run(self) -> tuple[dict, float]:
        """(figures by their names in summary.json, means over the clients that were trained; seconds of training).

        Raises:
            UsageError: a client's training did not stay finite.
        """
        job, finished = self.job, self.finished
        try:
            self.train_parts()
        except BaseException:  # a signal among them
            if job.tells:
                self.finished.write_if_any()
            raise
        return named(*finished.means(), finished.own) | self.range(), finished.seconds

    def range(self) -> dict:
        """The least and the largest test accuracy of any client."""
        if not self.job.alone:
            return {}
        accuracies = self.finished.right[0] / len(self.splits[0].labels)
        return {"test_accuracy_min": float(accuracies.min()), "test_accuracy_max": float(accuracies.max())}

    def train_parts(self) -> None:
        """Trains and evaluates who is not finished."""
        job, placed = self.job, place_locally(self.splits, self.job.devices)
        total, saved, hidden = len(job.rows) * self.config.rounds, time.monotonic(), None if job.tells else True
        with tqdm(total=total, desc=job.name, unit="round", leave=False, disable=hidden, delay=2) as bar:
            for part in split_by_size(job.rows, self.most(), self.lanes * job.devices):
                clients = deal(part, job.devices).reshape(-1)
                real = clients[clients != NOBODY]
                if not self.finished.left()[real].any():
                    bar.update(len(real) * self.config.rounds)
                    continue
                params, seconds = self.train_part(clients, bar)
                scores = jax.device_get(self.score(params, job.problem.frozen, placed))
                scores = jax.tree.map(lambda leaf, kept=clients != NOBODY: leaf[kept], scores)
                self.refuse(real, np.all([each.finite for each in scores], axis=0), self.config.rounds)
                self.finished.add(real, scores, *self.own(real, scores[0]))
                self.finished.seconds += seconds
                if job.tells and time.monotonic() - saved >= SECONDS_A_SAVE:
                    self.finished.write()
                    saved = time.monotonic()

    def own(self, clients: np.ndarray, test: Scores) -> tuple[np.ndarray, np.ndarray | slice]:
        """(accuracies of the federation's clients on their own rows, which clients these are)."""
        own, told = self.learner.score.own, figures(test)
        if self.job.alone:
            return own.accuracies(told, test.correct, clients), clients
        first = jax.tree.map(lambda leaf: leaf[0], (told, test.correct))
        return own.accuracies(*first), slice(None)

    def train_part(self, clients: np.ndarray, bar: tqdm):
        """(the clients' params [M, ...] after all rounds, seconds of training)."""
        config, real = self.config, clients[clients != NOBODY]
        self.warm_up(clients)
        params = start_all(self.learner.params, len(clients), self.job.devices)
        number, pace, seconds = 0, 1, 0.0
        while number < config.rounds:
            count, began = min(pace, config.rounds - number), time.perf_counter()
            params, finite = self.train(params, clients, np.int32(number), np.int32(count), self.job.problem)
            finite = np.asarray(finite)[clients != NOBODY]
            took = time.perf_counter() - began
            number, pace = number + count, rounds_a_call(took / count)
            self.refuse(real, finite, number)
            seconds, self.trained = seconds + took, self.trained + took
            self.worked += self.training_flops(self.job.rows[real].sum()) * count
            self.tell_time()
            bar.update(count * len(real))
        return params, seconds

    def warm_up(self, clients: np.ndarray) -> None:
        """Compiles, before the clock starts; a program's first round is slow, so the smallest client does one."""
        if self.warm or not self.config.rounds:
            return
        real, few = clients[clients != NOBODY], np.full_like(clients, NOBODY)
        few[:: len(clients) // self.job.devices] = real[self.job.rows[real].argmin()]
        params = start_all(self.learner.params, len(clients), self.job.devices)
        jax.block_until_ready(self.train(params, few, np.int32(0), np.int32(1), self.job.problem))
        self.warm = True

    def most(self) -> int:
        """Clients of a part, of the usual size."""
        rounds, rows = max(self.config.rounds, 1), self.job.rows.mean()
        work = self.training_flops(rows) * rounds + self.evaluation_flops()
        return max(int(min(PARAMS_BYTES // tree_bytes(self.learner.params), PART_FLOPS // work)), 1)

    def training_flops(self, rows: float) -> float:
        """Of a round of so many rows."""
        local = self.job.local
        step = costs.step_flops(local, self.learner.params, self.learner.problem)
        return rows * local.epochs * step / local.batch_size

    def evaluation_flops(self) -> float:
        """Of a client; its products are two of a training step's three."""
        return self.training_flops(sum(len(split.labels) for split in self.splits)) / self.config.local.epochs * 2 / 3

    def tell_time(self) -> None:
        """Says once, where it is long, how long it will take by what it has taken so far, and how to leave it out."""
        if self.told or self.trained < ENOUGH or not self.worked:
            return
        left = self.finished.left()
        work = self.training_flops(self.job.rows[left].sum()) * self.config.rounds
        expected = (work + left.sum() * self.evaluation_flops()) * self.trained / self.worked
        if expected < LONG:
            return
        self.told = True
        field = "compare" if self.config.compare else "methods"
        others = tuple(name for name in self.config[field] if name != self.job.name)
        clients = f" for {left.sum():,} clients, each trained by itself" if len(self.job.rows) > 1 else ""
        told = f"{self.job.name}: about {readable_seconds(expected)}{clients}"
        tqdm.write(f'{told}; left out, in a new folder, by --config.{field}="{others}"', file=sys.stderr)

    def refuse(self, clients: np.ndarray, sound: np.ndarray, number: int) -> None:
        """Stops where a client's training has not stayed finite up to round `number`.

        Raises:
            UsageError: the first of them is named.
        """
        if sound.all():
            return
        who = f"client {clients[~sound].min()} of {self.job.name}" if len(self.job.rows) > 1 else self.job.name
        raise diverged(self.config, f"{who}, up to round {number},")
