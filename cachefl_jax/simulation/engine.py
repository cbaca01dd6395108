"""Which plan a run is trained by: the one that is best by experience and fits into memory, or, where a run is long
enough to gain by it, the fastest of those that were measured within a budget.

The same command must end in the same bytes on a busy machine, and plans differ in rounding. So whether a run measures
follows from counts alone, and what was measured is stored before the first round.
"""

import functools
import pathlib
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.errors import UsageError
from cachefl_jax.federation import Plan, place
from cachefl_jax.report.units import readable_seconds
from cachefl_jax.simulation import notes
from cachefl_jax.simulation.build import Learner
from cachefl_jax.simulation.devices import as_process_0_has_it
from cachefl_jax.simulation.filling import Engine, compiled, fill
from cachefl_jax.simulation.plans import agreed, describe, fingerprint, plans_of, stored, stored_run
from cachefl_jax.storage.files import write_json
from cachefl_jax.storage.home import PLANS, home

WORTH_MEASURING = 10.0  # estimated seconds of a whole run; a shorter one would lose by trying others
SHARE = 0.15  # of the run's expected time that measuring may take
TRIAL = 2  # rounds that measuring a plan takes, the first to warm up
SLOWER = 1.5  # a plan whose first round takes so many times the best one's is not measured further
# For the estimate, which need not be better than to a factor of a few; an accelerator's is between what an H200 reaches
# on small and on large rounds (docs/figures.md).
FLOPS = {"cpu": 2e11, "other": 1e13}  # operations a second
STEP = 3e-5  # seconds that a step takes, whatever is in it


def start_engine(config: ConfigDict, learner: Learner, file: pathlib.Path) -> Engine:
    """Chooses, compiles and fills the engine.

    The choice that `file`, a run's engine.json, holds is kept, so that a resumed run is the same run. One that followed
    from more than the config is kept in the user's store too, so that the same command is the same run on this machine.

    Raises UsageError: no plan that the config allows fits into memory."""
    plans = plans_of(config, learner)
    measures = len(plans) > 1 and worth_measuring(config, learner)
    store = home() / PLANS / f"{fingerprint(config, learner, plans, measures)}.json"
    began = known = None
    if jax.process_index() == 0:
        began = stored_run(file) if file.is_file() else None
        known = began or stored(store)
    began, known = agreed(began), agreed(known)
    if began or known:
        # What does not fit any more must not stop a new run; one that has begun goes on by its own plan.
        plans, measures = [known] if began else [known, *(plan for plan in plans if plan != known)], False
    engine, measured = choose(config, learner, plans, measures)
    record = {
        "plan": engine.plan._asdict(), "seconds_per_round": measured, "bytes": engine.footprint._asdict(),
        "device": jax.devices()[0].device_kind,
    }  # fmt: skip
    if not known and (measured or engine.plan != plans[0]) and jax.process_index() == 0:
        write_json(store, record)
    return engine._replace(record=record)


def worth_measuring(config: ConfigDict, learner: Learner) -> bool:
    """Whether a run is long enough for its budget to pay for the first plan's trial and another's. Asks no clock."""
    return SHARE * config.rounds >= 2 * TRIAL and expected_seconds(config, learner) >= WORTH_MEASURING


def expected_seconds(config: ConfigDict, learner: Learner) -> float:
    """A run's seconds on this kind of machine, from counts: two products of rows with params, and the steps."""
    size = sum(leaf.size for leaf in jax.tree.leaves(learner.params))
    rows, local = np.asarray(learner.client_rows), learner.local
    clients = (config.cohort or len(rows)) * local.epochs
    steps = clients * (-(-rows // local.batch_size)).mean()
    rate = FLOPS["cpu" if jax.default_backend() == "cpu" else "other"]
    return config.rounds * float(clients * rows.mean() * 4 * size / rate + steps * STEP)


def choose(config: ConfigDict, learner: Learner, plans: list[Plan], measures: bool) -> tuple[Engine, dict[str, float]]:
    """(a filled engine: of the first plan that fits, or where the run `measures` of the fastest; the seconds a round of
    those that were measured)."""
    left, refusal, best, began = list(plans), None, None, time.perf_counter()
    while best is None and left:
        try:
            best = compiled(config, learner, left.pop(0))
        except UsageError as error:
            refusal = refusal or error
    if best is None:
        raise refusal
    if measures and left:
        best, measured = fastest(config, learner, best, left, since(began))
    else:
        measured = {}
        if len(plans) > 1:
            why = "" if best.plan == plans[0] else f"; {describe(plans[0])}, equal up to rounding, does not fit"
            tell(f"engine: {describe(best.plan)}{why}")
    return best if best.problem is not None else fill(best, learner), measured


@functools.cache
def tell(line: str) -> None:
    """A line for the person at the terminal, once a process: the runs of a study mostly have one plan."""
    if not notes.inside():
        print(line, file=sys.stderr)


def fastest(
    config: ConfigDict, learner: Learner, first: Engine, others: list[Plan], compiling: float
) -> tuple[Engine, dict[str, float]]:
    """(the fastest engine, filled if it was the last to be tried; the seconds a round of all that were tried).

    Other plans are tried as long as the budget lasts: a share of what the run takes by the best so far, less what was
    spent. One engine at a time has its arrays on the devices. `compiling` is the seconds that the first one took; the
    next are expected to take as many.
    """
    began = time.perf_counter()
    tried = fill(first, learner)
    making = compiling + since(began)  # what the next plan will take as well
    best, seconds = first, seconds_a_round(tried, learner)
    measured, spent = {describe(first.plan): seconds}, TRIAL * seconds
    for plan in others:
        if spent + making + TRIAL * seconds > SHARE * config.rounds * seconds:
            break
        tried, began = None, time.perf_counter()  # its arrays are let go of before others are put there
        try:
            engine = compiled(config, learner, plan)
        except UsageError:
            continue
        tried = fill(engine, learner)
        making = max(making, since(began))
        measured[describe(plan)] = new = seconds_a_round(tried, learner, seconds)
        spent += since(began)
        if new < seconds:
            best, seconds = engine, new
    told = ", ".join(f"{name} {readable_seconds(new)}" for name, new in measured.items())
    tell(f"engine: {describe(best.plan)}, measured: {told} a round")
    if tried is not None and tried.plan == best.plan:
        best = tried
    return best, measured


def since(began: float) -> float:
    """Seconds since then, as process 0 has them: all processes must try the same plans."""
    return as_process_0_has_it(time.perf_counter() - began)


def seconds_a_round(engine: Engine, learner: Learner, best: float = float("inf")) -> float:
    """A round's seconds, after one to warm up; the first's where that took far longer than the `best` plan's."""
    seconds, state = 0.0, place(learner.start(), engine.plan)
    for _ in range(TRIAL):
        began = time.perf_counter()
        state, _ = jax.block_until_ready(engine.run(state, jnp.asarray(1, jnp.int32), engine.problem))
        seconds = since(began)
        if seconds > SLOWER * best:
            break
    return seconds
