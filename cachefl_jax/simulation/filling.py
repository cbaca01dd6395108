"""From a plan to an engine: compiled from shapes alone, held against the memory there is, and only then filled."""

from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from cachefl_jax.aligned import ALIGNMENT
from cachefl_jax.errors import UsageError
from cachefl_jax.federation import Plan, Problem, add_gram, compile_run, place, prepare, with_sizes
from cachefl_jax.federation.memory import Footprint, footprint, free, needed
from cachefl_jax.federation.own_rows import laid_out_shapes, lay_out
from cachefl_jax.report.units import readable_bytes
from cachefl_jax.simulation.build import Learner
from cachefl_jax.simulation.devices import least
from cachefl_jax.simulation.plans import describe, plans_of


class Engine(NamedTuple):
    """A plan, ready to train."""

    plan: Plan
    run: jax.stages.Compiled  # (state, count, problem) -> (state, metrics)
    capacity: int  # rounds that one call may do
    footprint: Footprint
    problem: Problem | None  # on the devices, with what the plan computes once a run; None until it is filled
    record: dict  # engine.json


def room(problem: Problem, plan: Plan) -> int | None:
    """Bytes that a plan may take: what is free, and the rows that a CPU's devices read where they lie on the host;
    dealt rows are laid out anew."""
    there = free()
    if there is None or jax.default_backend() != "cpu" or plan.own_rows:
        return there
    rows = jax.tree.leaves(problem.data)
    return there + sum(leaf.nbytes for leaf in rows if leaf.ctypes.data % ALIGNMENT == 0)


def compiled(config: ConfigDict, learner: Learner, plan: Plan) -> Engine:
    """The plan's engine, not filled yet; nothing is put onto the devices. Raises UsageError: it would not fit."""
    run, need = compile_plan(config, learner, plan)
    wanted, there = needed(plan, need), room(learner.problem, plan)
    if there is not None:
        there = least(there)
    if there is not None and wanted > there:
        told = ", ".join(f"{name.replace('_', ' ')} {readable_bytes(size)}" for name, size in need._asdict().items())
        value = f"{describe(plan)}, which needs {readable_bytes(wanted)} ({told} on a device)"
        smaller = (
            "a smaller towers.images_at_once or local.batch_size" if "towers" in config else "fewer keys or classes"
        )
        mend = f"engine.strategy=scan, engine.devices=1 or a smaller engine.client_chunk; {smaller}"
        if need.clients > need.params:
            mend = f"{mend}; fewer clients, or a method or local.algorithm by which they keep less"
        raise UsageError("engine.strategy", value, f"what fits into the {readable_bytes(there)} that are free", mend)
    return Engine(plan, run, segment(config), need, None, {})


def fill(engine: Engine, learner: Learner) -> Engine:
    """The engine with the federation's arrays on its devices."""
    plan, problem = engine.plan, learner.problem
    if plan.own_rows:
        problem = lay_out(problem, plan.devices)
    problem = add_gram(learner.federation, plan, place(problem, plan))
    return engine._replace(problem=jax.block_until_ready(problem))


def segment(config: ConfigDict) -> int:
    """The most rounds between two points at which the host must act."""
    return max(min(config.eval_every, config.checkpoint_every, config.rounds), 1)


def compile_plan(config: ConfigDict, learner: Learner, plan: Plan) -> tuple[jax.stages.Compiled, Footprint]:
    """The run's program and what it needs, from shapes alone."""
    state = jax.eval_shape(learner.start)
    problem = laid_out_shapes(learner.problem, plan.devices) if plan.own_rows else learner.problem
    ready = jax.eval_shape(lambda problem: prepare(learner.federation, plan, problem), problem)
    federation = with_sizes(learner.federation, plan, learner.client_rows, jax.default_backend())
    run = compile_run(federation, plan, segment(config), state, ready)
    return run, footprint(run, state, ready, plan)


def needs_table(config: ConfigDict, learner: Learner) -> str:
    """Bytes on a device, and needed in all, of every plan that the config allows."""
    rows = [("plan", *Footprint._fields, "needed", "free", "")]
    for plan in plans_of(config, learner):
        need = compile_plan(config, learner, plan)[1]
        wanted, there = needed(plan, need), room(learner.problem, plan)
        fits = "" if there is None or wanted <= there else "does not fit"
        rows.append((describe(plan), *map(readable_bytes, (*need, wanted, there)), fits))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
