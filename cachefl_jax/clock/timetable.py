"""What happens when in a run whose sites have profiles: synchronous rounds.

Axis letters: C clients, R rounds, M most updates that the server adds up in a round.
"""

import math
from typing import NamedTuple

import numpy as np

from cachefl_jax.clock.profiles import FIELD, HOURS, Profiles
from cachefl_jax.errors import UsageError

STREAM = 2  # of the run's seed: `profiles` has another
HOUR = 3600.0  # seconds


class Tasks(NamedTuple):
    """What a round is to each client, [C] each. One without rows is never asked."""

    rows: np.ndarray  # that it holds
    steps: np.ndarray  # whole number
    before: np.ndarray  # seconds until its first step
    step: np.ndarray  # seconds of one
    after: np.ndarray  # seconds from its last step until its update has arrived

    @property
    def whole(self) -> np.ndarray:
        """Seconds until the update of all steps has arrived."""
        return self.before + self.steps * self.step + self.after


class Rules(NamedTuple):
    """Who is asked, and how long the server waits."""

    rounds: int  # R
    size: int  # M
    seed: int
    drop_out: float = 0.0  # the probability that a site is lost before its work
    drop_out_late: float = 0.0  # or after it, before its update is sent
    over_selection: float = 0.0  # so many more sites are asked, by their share in M
    deadline: float = 0.0  # seconds; 0: none
    partial: bool = True  # at the deadline a site sends what it has done; else it is left out
    concurrency: int = 0  # asynchronous: sites that work at once


class Timetable(NamedTuple):
    """A run's.

    Attributes:
        clients: [R, M] int32 whose updates the server adds up in a round, in the order in which it does (by rows, the
            most first; then by number); the first `sizes` of them count.
        sizes: [R] int32.
        steps: [R, M] int32 that each has done.
        ages: [R, M] int32: how many steps the server has made since it sent the params that each trained from.
        ends: [R] seconds at which rounds end, since the first began.
        asked: [R] sites that were sent params in a round.
        sites: what each site did in all.
    """

    clients: np.ndarray
    sizes: np.ndarray
    steps: np.ndarray
    ages: np.ndarray
    ends: np.ndarray
    asked: np.ndarray
    sites: "Sites"


class Sites(NamedTuple):
    """What each site did, [C] each. What goes on still when the run ends does not count."""

    taken: np.ndarray  # updates that the server added up
    lost: np.ndarray  # times that it was asked and sent none in time
    busy: np.ndarray  # seconds, what was lost included
    waiting: np.ndarray  # seconds from when an update had arrived until the server took it

    @classmethod
    def none_yet(cls, clients: int) -> "Sites":
        """Before the run."""
        return cls(*(np.zeros(clients, kind) for kind in (np.int64, np.int64, np.float64, np.float64)))


class Rows:
    """The rounds of a timetable, one after another."""

    def __init__(self, rules: Rules, rows: np.ndarray):
        self.rules, self.rows, self.done = rules, rows, 0
        shape = (rules.rounds, rules.size)
        self.clients, self.steps, self.ages = (np.zeros(shape, np.int32) for _ in range(3))
        self.sizes, self.ends = np.zeros(rules.rounds, np.int32), np.zeros(rules.rounds)
        self.asked, self.begun = np.zeros(rules.rounds, np.int64), -1.0

    def ask(self, count: int, now: float) -> None:
        """So many sites, for the round that comes next."""
        self.asked[self.done] += count
        self.begun = now if self.begun < 0 else self.begun

    def add(self, clients: np.ndarray, steps: np.ndarray, ages: np.ndarray | int, end: float) -> None:
        """A round with the updates of these clients [m]."""
        order = np.lexsort((clients, -self.rows[clients]))
        at, count = self.done, len(clients)
        self.clients[at, :count], self.steps[at, :count] = clients[order], steps[order]
        self.ages[at, :count] = np.broadcast_to(ages, count)[order]
        self.sizes[at], self.ends[at], self.done = count, end, at + 1

    def timetable(self, sites: Sites) -> Timetable:
        """All of them."""
        return Timetable(self.clients, self.sizes, self.steps, self.ages, self.ends - self.begun, self.asked, sites)


def synchronous(tasks: Tasks, hours: np.ndarray, rules: Rules) -> Timetable:
    """Rounds in which the server waits for the sites that it has asked, or for the first M, or until the deadline.

    A round begins when the last one ends, or in the first hour in which a site is there. A site that is lost is known
    to be from that moment.

    Args:
        tasks: of each client.
        hours: [C, 24] bool, when each may be asked.

    Raises UsageError: no site with rows is ever there."""
    rows, sites, now = Rows(rules, tasks.rows), Sites.none_yet(len(tasks.rows)), 0.0
    for number in range(rules.rounds):
        now, there = next_there(tasks.rows > 0, hours, now)
        rng = stream(rules, number, 0)
        asked = draw(rng, there, math.ceil(rules.size * (1 + rules.over_selection) - 1e-9))
        steps, seconds, arrives = outcomes(rng, tasks, asked, rules)
        order = np.lexsort((asked, seconds))
        enough = np.cumsum(arrives[order]) == rules.size
        last = int(np.argmax(enough)) if enough.any() else len(asked) - 1
        taken, length = order[: last + 1][arrives[order[: last + 1]]], float(seconds[order[last]])
        sites.taken[asked[taken]] += 1
        sites.lost[np.delete(asked, taken)] += 1
        sites.busy[asked] += np.minimum(seconds, length)
        sites.waiting[asked[taken]] += length - seconds[taken]
        rows.ask(len(asked), now)
        now += length
        rows.add(asked[taken], steps[taken], 0, now)
    return rows.timetable(sites)


def stream(rules: Rules, number: int, draws: int) -> np.random.Generator:
    """What is drawn for round `number` after so many other draws for it."""
    return np.random.default_rng([rules.seed, STREAM, number, draws])


def draw(rng: np.random.Generator, there: np.ndarray, size: int) -> np.ndarray:
    """At most `size` of these clients, in ascending order; all of them without any chance."""
    return there if size >= len(there) else np.sort(rng.choice(there, size, replace=False))


def outcomes(rng: np.random.Generator, tasks: Tasks, asked: np.ndarray, rules: Rules) -> tuple:
    """Of each client that is asked (steps it does, seconds until its update arrives or it is known to be lost, whether
    the update arrives), [m] each."""
    steps, (early, late) = tasks.steps[asked], drop_outs(rng, len(asked), rules)
    before, step, after = tasks.before[asked], tasks.step[asked], tasks.after[asked]
    limit, missed = rules.deadline or np.inf, np.zeros(len(asked), bool)
    if rules.deadline and rules.partial:
        room, fits = limit - before - after, np.full(len(asked), np.inf)
        np.divide(room, step, out=fits, where=step > 0)
        missed = (room < 0) | (fits < 1)
        steps = np.minimum(steps, np.where(missed, 0, np.floor(fits))).astype(steps.dtype)
    seconds = before + np.where(early, 0, steps * step + np.where(late, 0, after))
    rounding = 1e-12 if rules.partial else 0  # what ends at the deadline may seem to end after it
    missed = (missed & ~early) | (seconds > limit * (1 + rounding))
    return steps, np.where(missed, limit, np.minimum(seconds, limit)), ~(missed | early | late)


def drop_outs(rng: np.random.Generator, count: int, rules: Rules) -> tuple[np.ndarray, np.ndarray]:
    """(who is lost before its work, who after it), [count] bool each."""
    chance = rng.random(count)
    early = chance < rules.drop_out
    return early, ~early & (chance < rules.drop_out + rules.drop_out_late)


def next_there(able: np.ndarray, hours: np.ndarray, now: float) -> tuple[float, np.ndarray]:
    """(`now`, or the beginning of the first hour after it in which any of the able clients is there; who is).

    Raises UsageError: nobody ever is."""
    for later in range(HOURS + 1):
        there = np.flatnonzero(able & hours[:, int(now // HOUR + later) % HOURS])
        if len(there):
            return (now // HOUR + later) * HOUR if later else now, there
    raise nobody()


def nobody() -> UsageError:
    """The refusal of sites that are never there."""
    allowed = "hours in which a site with rows is there"
    return UsageError(FIELD, "sites of which none with rows is ever there", allowed, "correct its hours")


def tasks_of(profiles: Profiles, rows: np.ndarray, steps: np.ndarray, costs: tuple[float, float, float]) -> Tasks:
    """The seconds of clients with so many rows and steps [C]; `costs`: bytes up, bytes down, operations of a step."""
    up, down, flops = costs
    before = profiles.latency + 8 * down / profiles.downlink
    return Tasks(rows, steps, before, flops / profiles.flops, 8 * up / profiles.uplink + profiles.latency)
