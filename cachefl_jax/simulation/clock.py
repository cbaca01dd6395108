"""The virtual clock of a run whose sites have profiles or drop out: the timetable as the engine takes it, and what is
told of it.

Axis letters: C clients, R rounds, M clients of a round.
"""

from typing import TYPE_CHECKING

import jax
import numpy as np
from ml_collections import ConfigDict

from cachefl_jax import costs
from cachefl_jax.clock.buffered import asynchronous
from cachefl_jax.clock.profiles import FIELD, Profiles, instant, profiles_of
from cachefl_jax.clock.timetable import HOUR, Rules, Tasks, Timetable, synchronous, tasks_of
from cachefl_jax.errors import UsageError
from cachefl_jax.federation import Pace, Schedule, scheduled, tree_bytes
from cachefl_jax.federation.primal.client import init_client
from cachefl_jax.report.units import readable_bytes
from cachefl_jax.storage.run_files import CLOCK

if TYPE_CHECKING:
    from cachefl_jax.simulation.build import Learner


def with_clock(config: ConfigDict, learner: "Learner") -> "Learner":
    """The learner whose rounds follow a timetable.

    Raises UsageError: profiles that are not to be had, sites without the memory, or a method that the clock's rules
    make no sense of."""
    told = config.participation
    profiles = profiles_of(told.profiles, learner.clients, config.seed) if told.profiles else instant(learner.clients)
    check_memory(learner, profiles)
    check_method(config, learner)
    tasks, rules = tasks_for(learner, profiles), rules_of(config, learner.clients)
    timetable = (asynchronous if told.buffer else synchronous)(tasks, profiles.hours, rules)
    most, oldest = max(int(timetable.sizes.max()), 1), int(timetable.ages.max())
    versions, partial = (oldest + 1 if oldest else 0), bool(told.deadline and told.late == "partial")
    pace = Pace(
        timetable.steps[:, :most] if partial else None,
        timetable.ages[:, :most] if versions else None,
        np.float32((1.0 + timetable.ages[:, :most]) ** -told.staleness) if versions else None,
    )
    return learner._replace(
        federation=learner.federation._replace(
            participation=scheduled, cohort=most, partial=partial, versions=versions
        ),
        problem=learner.problem._replace(schedule=Schedule(timetable.clients[:, :most], timetable.sizes, pace)),
        timetable=timetable,
        timed=bool(told.profiles),
    )


def rules_of(config: ConfigDict, clients: int) -> Rules:
    """Who is asked in a run of this config, and how long the server waits."""
    told, cohort = config.participation, config.cohort or clients
    return Rules(
        max(config.rounds, 1), told.buffer or cohort, config.seed, told.drop_out, told.drop_out_late,
        told.over_selection, told.deadline, told.late == "partial", min(told.concurrency or cohort, clients),
    )  # fmt: skip


def tasks_for(learner: "Learner", profiles: Profiles) -> Tasks:
    """What a round is to each client."""
    local, rows = learner.local, learner.client_rows
    flops = costs.step_flops(local, learner.params, learner.problem)
    steps = -(-rows // local.batch_size) * local.epochs
    return tasks_of(profiles, rows, steps, (*learner.traffic(), flops))


def site_memory(learner: "Learner") -> np.ndarray:
    """Bytes [C] that sites need to train: the params, their gradient and update, the optimizer's state, what a client
    keeps, what is frozen, and its rows. Activations are not in it."""
    local, params, problem = learner.local, learner.params, learner.problem
    optimizer = jax.eval_shape(lambda params: local.optimizer(problem.hyper).init(params), params)
    own = jax.eval_shape(lambda params, problem: init_client(learner.federation, params, problem), params, problem)
    rows = sum(leaf.nbytes // max(len(leaf), 1) for leaf in jax.tree.leaves(problem.data))
    return 3 * tree_bytes(params) + tree_bytes((optimizer, own, problem.frozen)) + rows * learner.client_rows


def check_memory(learner: "Learner", profiles: Profiles) -> None:
    """Refuses sites that cannot hold what they train. Raises UsageError: there is one."""
    needed = site_memory(learner)
    short = np.flatnonzero((needed > profiles.memory) & (learner.client_rows > 0))
    if len(short):
        client = int(short[0])
        value = f"{len(short)} sites with too little memory, the first of them client {client} with "
        value += readable_bytes(float(profiles.memory[client]))
        allowed = f"{readable_bytes(float(needed[client]))} or more, which {learner.method.label} needs there"
        raise UsageError(FIELD, value, allowed, "fewer keys, another method, or sites with more memory")


def check_method(config: ConfigDict, learner: "Learner") -> None:
    """Refuses rounds that a method or a part of them is nothing for. Raises UsageError: this is one."""
    told, label, work = config.participation, learner.method.label, learner.local.work
    if work.statistics is not None and told.deadline and told.late == "partial":
        allowed = f"left_out with {label}, whose clients count and take no steps"
        raise UsageError("participation.late", "partial", allowed, "participation.late=left_out")
    if not told.buffer:
        return
    mend = "participation.buffer=0"
    if work.statistics is not None:
        allowed = f"0 with {label}, which is solved from one round's sums"
        raise UsageError("participation.buffer", told.buffer, allowed, f"{mend}, or drop the method from compare")
    if tree_bytes(jax.eval_shape(work.shared, learner.params)):
        allowed = "one of which the server sends the params alone, with participation.buffer"
        raise UsageError("local.algorithm", config.local.algorithm, allowed, "local.algorithm=fedavg")
    if not learner.federation.aggregation.linear or config.hostile.kind in ("inner_product", "alie"):
        allowed = "mean, uniform or sum with participation.buffer: old updates weigh less, which others do not heed"
        raise UsageError("aggregation.name", config.aggregation.name, allowed, f"aggregation.name=uniform, or {mend}")


def told_of_round(learner: "Learner", number: int) -> dict:
    """What the line of round `number` says of the clock; {} without one."""
    return {CLOCK: float(learner.timetable.ends[number - 1]) if number else 0.0} if learner.timed else {}


def check_resumed(learner: "Learner", records: list[dict]) -> None:
    """Refuses to go on by another timetable. Raises UsageError: the last record is of another second."""
    if not records or not learner.timed:
        return
    before, now = records[-1].get(CLOCK), told_of_round(learner, records[-1]["round"])[CLOCK]
    if before != now:
        value = f"a run whose round {records[-1]['round']} ended after {before} virtual seconds, now {now}"
        allowed = "the timetable that it began with: another version of this package, of JAX or of NumPy has another"
        raise UsageError("--workdir", value, allowed, "go on with those, or name another folder")


def told_of_sites(learner: "Learner") -> dict:
    """What summary.json says of the sites; {} without profiles or drop-outs."""
    if learner.timetable is None:
        return {}
    return {"sites": figures(learner.timetable, learner.timed)}


def bytes_of_run(learner: "Learner") -> int:
    """What travels both ways in all rounds, of an update whose bytes follow from its shapes."""
    (up, down), timetable = learner.traffic(), learner.timetable
    return up * int(timetable.sizes.sum()) + down * int(timetable.asked.sum())


def hours_at(learner: "Learner", rounds: list[int]) -> dict[str, list[float]]:
    """The virtual hours at which these rounds end, by their name in a sweep's curve; {} without a clock."""
    return {"hours": [float(learner.timetable.ends[each - 1]) / HOUR for each in rounds]} if learner.timed else {}


def each_site(learner: "Learner") -> dict[str, list]:
    """sites.json: what each site did in all, [C] each."""
    sites = learner.timetable.sites
    told = {"updates": sites.taken, "lost": sites.lost}
    if learner.timed:
        told |= {"busy_seconds": sites.busy, "waiting_seconds": sites.waiting}
    return {name: values.tolist() for name, values in told.items()}


def figures(timetable: Timetable, timed: bool) -> dict[str, float]:
    """A timetable in figures; seconds are means over the sites' turns, and only told where there is a clock."""
    sites, ages = timetable.sites, timetable.ages
    taken, lost = int(sites.taken.sum()), int(sites.lost.sum())
    valid = np.arange(ages.shape[1]) < timetable.sizes[:, None]
    told = {"updates": taken, "updates_lost": lost / max(taken + lost, 1)}
    if timed:
        told |= {
            "virtual_hours": float(timetable.ends[-1]) / HOUR,
            "seconds": float(sites.busy.sum()) / max(taken + lost, 1),
            "waiting_seconds": float(sites.waiting.sum()) / max(taken, 1),
            "staleness": float(ages[valid].mean()) if valid.any() else 0.0,
            "staleness_most": int(ages.max()),
        }
    return told
