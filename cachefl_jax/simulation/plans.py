"""The plans that a config allows, and the choice among them that an earlier run has stored."""

import hashlib
import json
import pathlib
import sys

import jax
import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from cachefl_jax.config.engine import STRATEGIES
from cachefl_jax.errors import UsageError
from cachefl_jax.federation import DUAL_NEEDS, Plan, Shapes, fits_dual, make_plan, tree_bytes
from cachefl_jax.federation.memory import capacity
from cachefl_jax.federation.own_rows import fits_own_rows
from cachefl_jax.federation.plan import MEMORY, check_sharing
from cachefl_jax.machine import cores
from cachefl_jax.simulation.build import Learner
from cachefl_jax.storage.run_files import read_plan

ROWS = 0.25  # of an accelerator's memory: rows that would take more are dealt rather than copied
FEWER = 8  # times as few clients side by side, where an accelerator has no room for as many as expected


def plans_of(config: ConfigDict, learner: Learner) -> list[Plan]:
    """The plans that the config allows, the one that is best by experience first, with rows where they are to lie.

    Raises UsageError: none is allowed."""
    plans, asked = spread_plans(config, learner), config.engine.rows
    if asked == "copied":
        return plans
    large = tree_bytes(learner.problem.data) > ROWS * (capacity() or MEMORY)
    if asked == "auto" and (jax.default_backend() == "cpu" or not large):
        return plans
    deal = fits_own_rows(learner.problem, learner.local.views)
    if asked == "auto":
        return [plan._replace(own_rows=deal and may_deal(plan)) for plan in plans]
    dealt = [plan._replace(own_rows=True) for plan in plans if deal and may_deal(plan)]
    if not dealt:
        allowed = "auto | copied here: dealt needs two devices or more for the clients, a strategy that is not dual, "
        mend = "--config.engine.rows=auto; a run that was begun with dealt goes on where there are two devices or more"
        raise UsageError("engine.rows", asked, f"{allowed}and rows of one client and one view each", mend)
    return dealt


def may_deal(plan: Plan) -> bool:
    """Whether rows may lie with their clients."""
    return plan.devices > 1 and plan.strategy != "dual"


def spread_plans(config: ConfigDict, learner: Learner) -> list[Plan]:
    """The plans by strategy and devices: on a CPU, whose every core is a device, the caches reward one client at a
    time; on an accelerator many side by side fill it."""
    engine, count = config.engine, config.engine.devices or jax.device_count()
    dual, backend = fits_dual(learner.federation), jax.default_backend()
    cohort = learner.federation.participation.places(learner.clients, learner.federation.cohort)
    shapes = Shapes(learner.client_rows, cohort, client_chunk=engine.client_chunk, block_rows=engine.block_rows)
    shapes = shapes._replace(params=tree_bytes(learner.params), memory=capacity())
    if dual:
        (leaf,) = jax.tree.leaves(learner.params)
        shapes = shapes._replace(scores=leaf.size // leaf.shape[-1], width=leaf.shape[-1])
    spreads = [count]
    if not engine.devices and engine.strategy == "auto" and backend == "cpu" and jax.process_count() == 1:
        spreads.append(1)  # one CPU device uses all cores too, by splitting every product
    processes = jax.process_count()
    if engine.class_devices > 1:
        return shared_plans(config, learner, shapes, count)
    if processes > 1 and count != jax.device_count():
        allowed = f"0 or {jax.device_count()}, the devices of all {processes} processes"
        raise UsageError("engine.devices", count, allowed, "leave none of them out")
    if processes > 1 and cohort < count:
        allowed = f"at least {count}, the devices of all {processes} processes"
        raise UsageError("cohort", cohort, allowed, f"raise it, or use engine.devices={processes} or fewer processes")
    spreads = sorted({min(spread, cohort) for spread in spreads}, reverse=True)
    if engine.strategy == "dual" and not dual:
        raise UsageError("engine.strategy", "dual", DUAL_NEEDS, "engine.strategy=auto")
    names = [engine.strategy]
    if engine.strategy == "auto":
        names = ["scan", "chunk"] if backend == "cpu" else ["chunk", "scan"]
        names = ["dual", *names] if dual else names
    plans = [make_plan(name, learner.local, shapes, spread, backend) for name in names for spread in spreads]
    if engine.strategy != "auto" or backend == "cpu":
        return plans
    # An estimate by bytes of params does not see a tower's activations: a few side by side may fit where many do not.
    fewer = [plan._replace(client_chunk=plan.client_chunk // FEWER) for plan in plans if plan.client_chunk >= FEWER]
    return [*plans[:-1], *(plan for plan in fewer if plan.strategy == "chunk"), plans[-1]]


def shared_plans(config: ConfigDict, learner: Learner, shapes: Shapes, count: int) -> list[Plan]:
    """The plans in which `engine.class_devices` devices share a client's keys.

    Raises UsageError: devices or classes cannot be divided so, or there are several processes."""
    engine, share, backend = config.engine, config.engine.class_devices, jax.default_backend()
    classes = learner.score.sharing.classes
    if jax.process_count() > 1:
        raise UsageError("engine.class_devices", share, "1 with several processes", "run one process, or leave it out")
    for what, number in (("devices", count), ("classes", classes)):
        if number % share:
            divisors = [each for each in range(1, min(number, count) + 1) if number % each == 0 and count % each == 0]
            allowed = f"a divisor of the {number} {what}: {' | '.join(map(str, divisors))}"
            raise UsageError("engine.class_devices", share, allowed, "choose one of these")
    names = [engine.strategy]
    if engine.strategy == "auto":
        names = ["scan", "chunk"] if backend == "cpu" else ["chunk", "scan"]
    groups = min(count // share, shapes.cohort)
    shapes = shapes._replace(params=shapes.params // share)
    plans = [make_plan(name, learner.federation.local, shapes, groups, backend) for name in names]
    return [plan._replace(class_devices=share, classes=classes) for plan in plans]


def describe(plan: Plan) -> str:
    """A plan in words."""
    side = f" of {plan.client_chunk} clients" if plan.strategy in ("chunk", "dual") else ""
    spread = f" on {plan.devices} devices" if plan.devices > 1 else ""
    if plan.class_devices > 1:
        groups = f"{plan.devices} groups of " if plan.devices > 1 else ""
        spread = f" on {groups}{plan.class_devices} devices that share the classes"
    spread += ", each with its own clients' rows" if plan.own_rows else ""
    return f"{plan.strategy}{side}{spread}"


def stored(file: pathlib.Path) -> Plan | None:
    """The plan of a record; None where there is none, it is damaged, or there are other devices now."""
    try:
        if not file.is_file():
            return None
        check_sharing(plan := Plan(**read_plan(file)))
    except (UsageError, ValueError):
        return None
    if plan.all_devices > jax.device_count():
        return None
    # All processes take part, or those that do not would wait for ever.
    return plan if jax.process_count() == 1 or plan.all_devices == jax.device_count() else None


def stored_run(file: pathlib.Path) -> Plan | None:
    """The plan that a run was begun with; says so where it cannot go on by it."""
    plan = stored(file)
    if plan is None:
        told = "is damaged or names other devices than there are: another plan is chosen, equal up to rounding"
        print(f"{file} {told}", file=sys.stderr)
    return plan


def agreed(plan: Plan | None) -> Plan | None:
    """The plan that process 0 knows, told to all."""
    if jax.process_count() == 1:
        return plan
    numbers = [-1, *[0] * (len(Plan._fields) - 1)] if plan is None else [STRATEGIES.index(plan.strategy), *plan[1:]]
    name, *sizes = multihost_utils.broadcast_one_to_all(np.asarray(numbers)).tolist()
    return None if name < 0 else Plan(STRATEGIES[name], *sizes)


def fingerprint(config: ConfigDict, learner: Learner, plans: list[Plan], measures: bool) -> str:
    """What a choice holds for: shapes, local training, plans to choose from, machine and JAX, and whether a run is long
    enough to measure: a short run's plan must not depend on what long ones have measured before."""
    shapes = [(leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves((learner.params, learner.problem))]
    sizes = np.percentile(learner.client_rows, [0, 25, 50, 75, 100]).tolist()
    machine = [jax.devices()[0].device_kind, cores(), jax.device_count(), jax.__version__]
    local = {name: value for name, value in config.local.items() if isinstance(value, (int, str))}
    parts = [shapes, sizes, machine, local, plans, config.cohort, config.server.optimizer, measures]
    parts += [config.engine.precision]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
