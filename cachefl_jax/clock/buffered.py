"""What happens when in a run whose sites have profiles: asynchronous rounds.

Nguyen et al., "Federated Learning with Buffered Asynchronous Aggregation" (FedBuff), arXiv 2106.06639.
"""

import heapq

import numpy as np

from cachefl_jax.clock.profiles import HOURS
from cachefl_jax.clock.timetable import HOUR, Rows, Rules, Sites, Tasks, Timetable, draw, drop_outs, nobody, stream
from cachefl_jax.errors import UsageError

MOST = 10_000  # times at which anything happens, to an update: with more, updates do not come


class Buffered:
    """The sites at work and the updates that have arrived, as time goes on.

    A site gives a step of the server at most one update: one whose update waits in the buffer is not asked again before
    the step. In the paper that is improbable, here it is excluded, and the order of updates cannot matter.
    """

    def __init__(self, tasks: Tasks, hours: np.ndarray, rules: Rules):
        self.tasks, self.hours, self.rules = tasks, hours, rules
        self.rows, self.sites = Rows(rules, tasks.rows), Sites.none_yet(len(tasks.rows))
        self.able = (tasks.rows > 0) & hours.any(axis=1)  # and neither at work nor in the buffer
        self.working: list[tuple] = []  # (second of its end, client, whether its update arrives, version, seconds)
        self.buffer: list[tuple] = []  # (client, version, second)
        self.draws = 0  # since the last step
        if self.able.sum() < rules.size:
            value = f"{rules.size}, of {self.able.sum()} sites that hold rows and are ever there"
            raise UsageError("participation.buffer", value, "at most so many", "lower it")

    def ask(self, now: float) -> float:
        """Lets sites begin as long as there is room; the next second at which more might come, if there still is."""
        room = self.rules.concurrency - len(self.working)
        there = np.flatnonzero(self.able & self.hours[:, int(now // HOUR) % HOURS])
        if room and len(there):
            rng = stream(self.rules, self.rows.done, self.draws)
            asked = draw(rng, there, room)
            self.draws += 1
            early, late = drop_outs(rng, len(asked), self.rules)
            self.rows.ask(len(asked), now)
            self.able[asked] = False
            tasks = self.tasks
            for client, first, last in zip(asked.tolist(), early, late, strict=True):
                lost_at = tasks.before[client] + (0 if first else tasks.steps[client] * tasks.step[client])
                seconds = lost_at if first or last else tasks.whole[client]
                heapq.heappush(self.working, (now + seconds, client, not (first or last), self.rows.done, seconds))
        more = len(self.working) < self.rules.concurrency and self.able.any()
        return (now // HOUR + 1) * HOUR if more else np.inf

    def end(self, ended: tuple) -> None:
        """One site's work; the server's step, where that fills the buffer."""
        second, client, arrives, version, seconds = ended
        self.sites.busy[client] += seconds
        if not arrives:
            self.sites.lost[client] += 1
            self.able[client] = True
            return
        self.buffer.append((client, version, second))
        if len(self.buffer) == self.rules.size:
            self.step(second)

    def step(self, now: float) -> None:
        """The server takes what is in the buffer."""
        clients, versions = (np.array(column) for column in tuple(zip(*self.buffer, strict=True))[:2])
        self.sites.taken[clients] += 1
        self.sites.waiting[clients] += [now - second for *_, second in self.buffer]
        self.able[clients] = True
        self.rows.add(clients, self.tasks.steps[clients], self.rows.done - versions, now)
        self.buffer, self.draws = [], 0


def asynchronous(tasks: Tasks, hours: np.ndarray, rules: Rules) -> Timetable:
    """Sites work without waiting for each other, at most `rules.concurrency` at once; the server makes a step whenever
    M updates have arrived.

    Args:
        tasks: of each client.
        hours: [C, 24] bool, when each may be asked.

    Raises UsageError: fewer than M sites with rows are ever there."""
    run, now, events = Buffered(tasks, hours, rules), 0.0, 0
    while run.rows.done < rules.rounds:
        more = run.ask(now)
        now, events = min(run.working[0][0] if run.working else np.inf, more), events + 1
        if events > MOST * rules.rounds * rules.size:
            raise nobody()
        while run.working and run.working[0][0] == now and run.rows.done < rules.rounds:
            run.end(heapq.heappop(run.working))
    return run.rows.timetable(run.sites)
