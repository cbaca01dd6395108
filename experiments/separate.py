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
from cachefl_jax.archive import read_arrays
from cachefl_jax.errors import UsageError
from cachefl_jax.federation import (
    NOBODY,
    LocalTraining,
    Problem,
    make_counts,
    make_separate,
    place_locally,
    share_right,
    split_by_size,
    start_all,
)
from cachefl_jax.federation.cohort import deal
from cachefl_jax.files import write_arrays
from cachefl_jax.methods import METHODS
from cachefl_jax.report.units import readable_seconds
from experiments.build import Learner, diverged

PARAMS_BYTES = 2**28  # of params on the devices at a time
PART_FLOPS = 4e11  # of a part over all its rounds: seconds of work, which a kill may lose
LANES = {"cpu": 1, "other": 64}  # clients side by side on a device
SECONDS_A_CALL = 1.0  # the progress bar's patience
SECONDS_A_SAVE = 5.0  # between two of finished clients
LONG = 30.0  # seconds from which on the time to come is told
UNDONE = -1  # of a client that is not finished


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
    """

    name: str
    local: LocalTraining
    problem: Problem
    rows: np.ndarray
    devices: int
    file: pathlib.Path | None
    tells: bool


class Separate:
    """A job at work."""

    def __init__(self, config: ConfigDict, learner: Learner, job: Job):
        self.config, self.learner, self.job = config, learner, job
        self.splits = [split for split in (learner.bank.test, learner.bank.validation) if split is not None]
        kind = "cpu" if jax.default_backend() == "cpu" else "other"
        self.lanes = min(LANES[kind], -(-len(job.rows) // job.devices))
        self.train = make_separate(job.local, self.lanes, job.devices)
        self.count = make_counts(METHODS[config.method].logits, job.devices)
        self.right, self.seconds = self.saved()
        self.told, self.warm = not job.tells, False
        self.worked = 0.0  # FLOPs of the seconds that this process has trained
        self.trained = 0.0

    def run(self) -> tuple[list[list[float]], float]:
        """([each client's accuracy, of each split], seconds of training).

        Raises:
            UsageError: a client's training did not stay finite.
        """
        try:
            self.train_parts()
        except BaseException:  # a signal among them
            self.save()
            raise
        shares = [
            [share_right(int(right), len(split.labels)) for right in rights]
            for rights, split in zip(self.right, self.splits, strict=True)
        ]
        return shares, self.seconds

    def train_parts(self) -> None:
        """Trains and evaluates who is not finished."""
        job, placed = self.job, place_locally([(part.features, part.labels) for part in self.splits], self.job.devices)
        total, saved, hidden = len(job.rows) * self.config.rounds, time.monotonic(), None if job.tells else True
        with tqdm(total=total, desc=job.name, unit="round", leave=False, disable=hidden, delay=2) as bar:
            for part in split_by_size(job.rows, self.most(), self.lanes * job.devices):
                clients = deal(part, job.devices).reshape(-1)
                real = clients[clients != NOBODY]
                if (self.right[:, real] != UNDONE).all():
                    bar.update(len(real) * self.config.rounds)
                    continue
                params = self.train_part(clients, bar)
                counts = np.stack(jax.device_get(self.count(params, job.problem.frozen, placed)))
                counts = counts[:, clients != NOBODY]
                self.refuse(real, (counts >= 0).all(axis=0), self.config.rounds)
                self.right[:, real] = counts
                if time.monotonic() - saved >= SECONDS_A_SAVE:
                    self.save()
                    saved = time.monotonic()

    def train_part(self, clients: np.ndarray, bar: tqdm):
        """The clients' params [M, ...] after all rounds."""
        config, real = self.config, clients[clients != NOBODY]
        self.warm_up(clients)
        params = start_all(self.learner.params, len(clients), self.job.devices)
        number, pace = 0, 1
        while number < config.rounds:
            count, began = min(pace, config.rounds - number), time.perf_counter()
            params, finite = self.train(params, clients, np.int32(number), np.int32(count), self.job.problem)
            finite = np.asarray(finite)[clients != NOBODY]
            took = time.perf_counter() - began
            number, pace = number + count, max(int(SECONDS_A_CALL * count / max(took, 1e-6)), 1)
            self.refuse(real, finite, number)
            self.seconds += took
            self.trained += took
            self.worked += self.training_flops(self.job.rows[real].sum()) * count
            self.tell_time()
            bar.update(count * len(real))
        return params

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
        return max(int(min(PARAMS_BYTES // costs.tree_bytes(self.learner.params), PART_FLOPS // work)), 1)

    def training_flops(self, rows: float) -> float:
        """Of a round of so many rows."""
        (keys,) = jax.tree.leaves(self.learner.params)
        return costs.cache_training_flops(rows * self.config.local.epochs, *keys.shape)

    def evaluation_flops(self) -> float:
        """Of a client; its products are two of a training step's three."""
        return self.training_flops(sum(len(split.labels) for split in self.splits)) / self.config.local.epochs * 2 / 3

    def tell_time(self) -> None:
        """Says once, where it is long, how long it will take by what it has taken so far, and how to leave it out."""
        left = (self.right[0] == UNDONE).sum()
        work = self.training_flops(self.job.rows[self.right[0] == UNDONE].sum()) * self.config.rounds
        expected = (work + left * self.evaluation_flops()) * self.trained / self.worked
        if self.told or self.trained < SECONDS_A_CALL or expected < LONG:
            return
        self.told = True
        others = tuple(name for name in self.config.methods if name != self.job.name)
        clients = f" for {left:,} clients, each trained by itself" if len(self.job.rows) > 1 else ""
        bar_free = f"{self.job.name}: about {readable_seconds(expected)}{clients}"
        tqdm.write(f'{bar_free}; left out, in a new folder, by --config.methods="{others}"', file=sys.stderr)

    def refuse(self, clients: np.ndarray, sound: np.ndarray, number: int) -> None:
        """Stops where a client's training has not stayed finite up to round `number`.

        Raises:
            UsageError: the first of them is named.
        """
        if sound.all():
            return
        who = f"client {clients[~sound].min()} of {self.job.name}" if len(self.job.rows) > 1 else self.job.name
        raise diverged(self.config, f"{who}, up to round {number},")

    def saved(self) -> tuple[np.ndarray, float]:
        """(right [splits, C] of those who are finished, seconds of training); a file that is damaged, or of a run of
        other rounds, is none."""
        nobody = np.full((len(self.splits), len(self.job.rows)), UNDONE, np.int32)
        if self.job.file is None or not self.job.file.is_file():
            return nobody, 0.0
        try:
            arrays = read_arrays("local_only", self.job.file, ("right", "seconds", "rounds"))
            right, seconds, rounds = arrays["right"], float(arrays["seconds"]), int(arrays["rounds"])
        except (UsageError, KeyError, TypeError, ValueError):
            return nobody, 0.0
        most = np.asarray([[len(split.labels)] for split in self.splits])
        fits = right.shape == nobody.shape and right.dtype == nobody.dtype
        whole = fits and (right >= UNDONE).all() and (right <= most).all() and np.isfinite(seconds)
        whole = whole and rounds == self.config.rounds
        return (right, seconds) if whole else (nobody, 0.0)

    def save(self) -> None:
        if self.job.file is not None and self.job.tells:
            numbers = {"seconds": np.asarray(self.seconds), "rounds": np.asarray(self.config.rounds)}
            write_arrays(self.job.file, {"right": self.right, **numbers})
