"""From a plan to an engine: compiled from shapes alone, held against the memory there is, and only then filled."""

from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from cachefl_jax.errors import UsageError
from cachefl_jax.federation import Plan, Problem, add_gram, compile_run, in_client_order, place, prepare
from cachefl_jax.federation.memory import Footprint, footprint, free, needed, size
from cachefl_jax.report.units import readable_bytes
from experiments.build import Learner
from experiments.devices import least
from experiments.plans import describe, plans_of


class Engine(NamedTuple):
    """A plan, ready to train."""

    plan: Plan
    run: jax.stages.Compiled  # (state, count, problem) -> (state, metrics)
    capacity: int  # rounds that one call may do
    footprint: Footprint
    problem: Problem | None  # on the devices, with what the plan computes once a run; None until it is filled
    record: dict  # engine.json


class HostRows:
    """The federation on the host with its rows client after client, laid out once for all plans that are filled."""

    def __init__(self, problem: Problem):
        self.problem, self.ordered, self.held = problem, False, 0

    def laid_out(self) -> Problem:
        if not self.ordered:
            clients, data = in_client_order(self.problem.clients, self.problem.data)
            # A CPU's devices read these very bytes.
            shared = jax.default_backend() == "cpu" and data is not self.problem.data
            self.problem, self.ordered = self.problem._replace(clients=clients, data=data), True
            self.held = size(data) if shared else 0
        return self.problem


def compiled(config: ConfigDict, learner: Learner, plan: Plan, rows: HostRows) -> Engine:
    """The plan's engine, not filled yet; nothing is put onto the devices.

    Raises:
        UsageError: it would not fit.
    """
    run, need = compile_plan(config, learner, plan)
    wanted, there = needed(plan, need), free()
    if there is not None:
        there = least(there + rows.held)
    if there is not None and wanted > there:
        told = ", ".join(f"{name.replace('_', ' ')} {readable_bytes(size)}" for name, size in need._asdict().items())
        value = f"{describe(plan)}, which needs {readable_bytes(wanted)} ({told} on a device)"
        mend = "engine.strategy=scan, engine.devices=1 or a smaller engine.client_chunk; fewer keys or classes"
        raise UsageError("engine.strategy", value, f"what fits into the {readable_bytes(there)} that are free", mend)
    return Engine(plan, run, segment(config), need, None, {})


def fill(engine: Engine, learner: Learner, rows: HostRows) -> Engine:
    """The engine with the federation's arrays on its devices."""
    problem = add_gram(learner.local, engine.plan, place(rows.laid_out(), engine.plan))
    return engine._replace(problem=jax.block_until_ready(problem))


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
