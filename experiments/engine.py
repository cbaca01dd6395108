"""Which plan a run is trained by: compiled, held against the memory there is, and measured where that pays."""

import hashlib
import json
import pathlib
import sys
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from cachefl_jax.errors import UsageError
from cachefl_jax.federation import (
    STRATEGIES,
    Plan,
    Problem,
    Shapes,
    add_gram,
    compile_run,
    fits_dual,
    in_client_order,
    make_plan,
    place,
    prepare,
)
from cachefl_jax.federation.memory import Footprint, footprint, free, needed
from cachefl_jax.files import home, read_json, write_json
from cachefl_jax.machine import cores
from cachefl_jax.report.units import readable_bytes, readable_seconds
from experiments.build import Learner
from experiments.devices import as_process_0_has_it, least

WORTH_MEASURING = 10.0  # seconds of a whole run by the first plan; a shorter run would lose by trying others


class Engine(NamedTuple):
    """A plan, ready to train."""

    plan: Plan
    run: jax.stages.Compiled  # (state, count, problem) -> (state, metrics)
    capacity: int  # rounds that one call may do
    footprint: Footprint
    problem: Problem  # on the devices, with what the plan computes once a run
    record: dict  # engine.json


def start_engine(config: ConfigDict, learner: Learner, file: pathlib.Path) -> Engine:
    """Chooses, compiles and fills the engine.

    The choice that `file`, a run's engine.json, holds is kept, so that a resumed run is the same run; a measured one is
    kept in the user's store too, so that the same command is the same run on this machine.

    Raises:
        UsageError: no plan that the config allows fits into memory.
    """
    plans = plans_of(config, learner)
    store = home() / "plans" / f"{fingerprint(config, learner, plans)}.json"
    known = None
    if jax.process_index() == 0:
        known = stored_run(file) if file.is_file() else stored(store)
    known = agreed(known)
    engine, measured = choose(config, learner, [known] if known else plans)
    record = {
        "plan": engine.plan._asdict(), "seconds_per_round": measured, "bytes": engine.footprint._asdict(),
        "device": jax.devices()[0].device_kind,
    }  # fmt: skip
    if len(measured) > 1 and jax.process_index() == 0:
        write_json(store, record)
    return engine._replace(record=record)


def plans_of(config: ConfigDict, learner: Learner) -> list[Plan]:
    """The plans that the config allows, the one that is best by experience first: on a CPU, whose every core is a
    device, the caches reward one client at a time; on an accelerator many side by side fill it."""
    engine, count = config.engine, config.engine.devices or jax.device_count()
    (leaf,) = jax.tree.leaves(learner.params)
    cohort, backend = config.cohort or config.partition.clients, jax.default_backend()
    shapes = Shapes(learner.client_rows, cohort, leaf.size // leaf.shape[-1], leaf.shape[-1])
    spreads = [count]
    if not engine.devices and engine.strategy == "auto" and backend == "cpu" and jax.process_count() == 1:
        spreads.append(1)  # one CPU device uses all cores too, by splitting every product
    processes = jax.process_count()
    if processes > 1 and count != jax.device_count():
        allowed = f"0 or {jax.device_count()}, the devices of all {processes} processes"
        raise UsageError("engine.devices", count, allowed, "leave none of them out")
    if processes > 1 and cohort < count:
        allowed = f"at least {count}, the devices of all {processes} processes"
        raise UsageError("cohort", cohort, allowed, f"raise it, or use engine.devices={processes} or fewer processes")
    spreads = sorted({min(spread, cohort) for spread in spreads}, reverse=True)
    names = [engine.strategy]
    if engine.strategy == "auto":
        names = ["scan", "chunk"] if backend == "cpu" else ["chunk", "vmap", "scan"]
        names = ["dual", *names] if fits_dual(learner.local) else names
    return [
        make_plan(name, learner.local, shapes, spread, engine.client_chunk, engine.block_rows, backend)
        for name in names
        for spread in spreads
    ]


def choose(config: ConfigDict, learner: Learner, plans: list[Plan]) -> tuple[Engine, dict[str, float]]:
    """(the engine of the fastest plan that fits, the seconds a round of those that were tried)."""
    best, refusal, measured = None, None, {}
    for plan in plans:
        try:
            engine = fill(config, learner, plan)
        except UsageError as error:
            refusal = error
            continue
        if len(plans) == 1:
            return engine, {}
        measured[describe(plan)] = seconds = seconds_a_round(engine, learner)
        if best is None or seconds < min(list(measured.values())[:-1]):
            best = engine
        if len(measured) == 1 and seconds * config.rounds < WORTH_MEASURING:
            print(f"engine: {describe(plan)}; the run is too short for trying others", file=sys.stderr)
            return best, measured
    if best is None:
        raise refusal
    if len(measured) == 1:
        return best, measured
    others = ", ".join(f"{name} {readable_seconds(seconds)}" for name, seconds in measured.items())
    print(f"engine: {describe(best.plan)}, measured against the others: {others} a round", file=sys.stderr)
    return best, measured


def fill(config: ConfigDict, learner: Learner, plan: Plan) -> Engine:
    """Compiles a plan for these shapes, checks that it fits, and only then puts anything onto the devices.

    Raises:
        UsageError: it would not fit.
    """
    run, need = compile_plan(config, learner, plan)
    wanted, there = needed(plan, need), free()
    if there is not None:
        there = least(there)
    if there is not None and wanted > there:
        told = ", ".join(f"{name.replace('_', ' ')} {readable_bytes(size)}" for name, size in need._asdict().items())
        value = f"{describe(plan)}, which needs {readable_bytes(wanted)} ({told} on a device)"
        mend = "engine.strategy=scan, engine.devices=1 or a smaller engine.client_chunk; fewer keys or classes"
        raise UsageError("engine.strategy", value, f"what fits into the {readable_bytes(there)} that are free", mend)
    clients, data = in_client_order(learner.problem.clients, learner.problem.data)
    problem = place(learner.problem._replace(clients=clients, data=data), plan)
    problem = add_gram(learner.local, plan, problem)
    return Engine(plan, run, segment(config), need, problem, {})


def segment(config: ConfigDict) -> int:
    """The most rounds between two points at which the host must act."""
    return max(min(config.eval_every, config.checkpoint_every, config.rounds), 1)


def compile_plan(config: ConfigDict, learner: Learner, plan: Plan) -> tuple[jax.stages.Compiled, Footprint]:
    """The run's program and what it needs, from shapes alone."""
    state = jax.eval_shape(learner.start)
    ready = jax.eval_shape(lambda problem: prepare(learner.local, plan, problem), learner.problem)
    optimizer = learner.server_optimizer
    run = compile_run(learner.local, optimizer, plan, config.cohort, segment(config), state, ready)
    return run, footprint(run, state, ready)


def needs_table(config: ConfigDict, learner: Learner) -> str:
    """Bytes on a device, and needed in all, of every plan that the config allows."""
    rows, there = [("plan", *Footprint._fields, "needed", "free", "")], free()
    for plan in plans_of(config, learner):
        need = compile_plan(config, learner, plan)[1]
        wanted = needed(plan, need)
        fits = "" if there is None or wanted <= there else "does not fit"
        rows.append((describe(plan), *map(readable_bytes, (*need, wanted, there)), fits))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def seconds_a_round(engine: Engine, learner: Learner) -> float:
    """A round's seconds, after one to warm up; as process 0 has measured it."""
    seconds, state = 0.0, place(learner.start(), engine.plan)
    for _ in range(2):
        began = time.perf_counter()
        state, _ = jax.block_until_ready(engine.run(state, jnp.asarray(1, jnp.int32), engine.problem))
        seconds = time.perf_counter() - began
    return as_process_0_has_it(seconds)


def describe(plan: Plan) -> str:
    """A plan in words."""
    side = f" of {plan.client_chunk} clients" if plan.strategy in ("chunk", "dual") else ""
    spread = f" on {plan.devices} devices" if plan.devices > 1 else ""
    return f"{plan.strategy}{side}{spread}"


def stored(file: pathlib.Path) -> Plan | None:
    """The plan of a record; None where there is none, it is damaged, or there are other devices now."""
    try:
        plan = Plan(**read_json(file)["plan"]) if file.is_file() else None
    except (UsageError, KeyError, TypeError):
        return None
    if plan is None or plan.devices > jax.device_count():
        return None
    # All processes take part, or those that do not would wait for ever.
    return plan if jax.process_count() == 1 or plan.devices == jax.device_count() else None


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
    numbers = [-1, 0, 0, 0] if plan is None else [STRATEGIES.index(plan.strategy), *plan[1:]]
    name, *sizes = multihost_utils.broadcast_one_to_all(np.asarray(numbers)).tolist()
    return None if name < 0 else Plan(STRATEGIES[name], *sizes)


def fingerprint(config: ConfigDict, learner: Learner, plans: list[Plan]) -> str:
    """What a measurement holds for: shapes, local training, plans to choose from, machine and JAX."""
    shapes = [(leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves((learner.params, learner.problem))]
    sizes = np.percentile(learner.client_rows, [0, 25, 50, 75, 100]).tolist()
    machine = [jax.devices()[0].device_kind, cores(), jax.device_count(), jax.__version__]
    local = {name: value for name, value in config.local.items() if isinstance(value, (int, str))}
    parts = [shapes, sizes, machine, local, plans, config.cohort, config.server.optimizer]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
