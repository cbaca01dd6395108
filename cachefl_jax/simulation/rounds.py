"""The federation's rounds, from where a run goes on to its last: trained, evaluated, noted and saved."""

import math
import sys
import time
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from cachefl_jax import interrupts
from cachefl_jax.federation import Drift, ServerState, place, unplaced
from cachefl_jax.simulation.build import Learner, diverged, finite, scores_at_round_0
from cachefl_jax.simulation.clock import check_resumed, told_of_round
from cachefl_jax.simulation.devices import as_process_0_has_it, in_any_process, leave_together
from cachefl_jax.simulation.engine import start_engine
from cachefl_jax.simulation.filling import Engine
from cachefl_jax.simulation.pace import rounds_a_call
from cachefl_jax.simulation.plans import stored
from cachefl_jax.simulation.privacy import spent_after
from cachefl_jax.simulation.resume import resume
from cachefl_jax.simulation.scores import scalars
from cachefl_jax.simulation.workdir import Workdir
from cachefl_jax.simulation.writers import open_writers
from cachefl_jax.storage.run_files import UNSCORED


class Progress(NamedTuple):
    """Where a federation goes on."""

    state: ServerState
    rounds: int  # that are done
    engine: Engine | None  # filled; None: nothing is left to train


def begin(config: ConfigDict, learner: Learner, workdir: Workdir) -> Progress:
    """The federation as its folder has it. Raises UsageError: no plan that the config allows fits into memory."""
    state, done = resume(learner, workdir)
    return Progress(state, done, start_engine(config, learner, workdir.engine) if done < config.rounds else None)


def run_rounds(
    config: ConfigDict, learner: Learner, workdir: Workdir, progress: Progress
) -> tuple[ServerState, list[dict]]:
    """(the server after the last round, a line of metrics a round).

    Raises Interrupted: a signal came; the last round that was done is saved."""
    state, start, engine = progress
    if start:
        print(f"resuming after round {start} of {config.rounds}", file=sys.stderr)
        records = workdir.keep_metrics(start, config)
        check_resumed(learner, records)
    else:
        records = workdir.keep_metrics(-1, config) + [first_record(config, learner)]
        workdir.append_metrics(records[-1:])
    if engine is None:
        with open_writers(config, workdir) as write:
            write(records)
        return state, records
    if stored(workdir.engine) != engine.plan:
        workdir.write_json(workdir.engine, engine.record)
    state = place(state, engine.plan)
    number, pace = start, 1
    bar = tqdm(initial=start, total=config.rounds, desc="rounds", disable=None if workdir.writes else True)
    with interrupts.finishing(), bar, workdir.open_checkpoints() as save, open_writers(config, workdir) as write:
        write(records)
        while number < config.rounds:
            stop = min(next_act(config, number), number + pace, number + engine.capacity)
            state, new = some_rounds(config, learner, engine, state, number, stop)
            workdir.append_metrics(new)
            write(new)
            records += new
            number, pace = stop, rounds_a_call(new[-1]["seconds"])
            bar.update(len(new))
            if new[-1]["test_accuracy"] is not None:
                bar.set_postfix(test=f"{new[-1]['test_accuracy']:.3f}")
            leaving = in_any_process(interrupts.asked())
            if number % config.checkpoint_every == 0 or number == config.rounds or leaving:
                save(number, unplaced(state, learner.clients, engine.plan))
            if leaving:
                leave_together(leaving)
    return unplaced(state, learner.clients, engine.plan), records


def next_act(config: ConfigDict, number: int) -> int:
    """The next round after which something is evaluated or saved."""
    return min(
        config.rounds, *(number + every - number % every for every in (config.eval_every, config.checkpoint_every))
    )


def first_record(config: ConfigDict, learner: Learner) -> dict:
    """The line of round 0: the untuned cache, nothing sent."""
    told = scalars(scores_at_round_0(config, learner))
    line = {"round": 0, **told, "train_loss": None, "bytes_up": 0, "bytes_down": 0, "seconds": 0.0, "cohort": 0}
    return line | told_of_round(learner, 0)


def some_rounds(
    config: ConfigDict, learner: Learner, engine: Engine, state: ServerState, number: int, stop: int
) -> tuple[ServerState, list[dict]]:
    """Trains the rounds after `number` up to `stop` as one program and says what they did.

    `seconds` is the training alone, not the evaluation: the mean of the rounds that one call has done.
    """
    (up, down), whose = learner.traffic(), "" if learner.name == config.method else f" of {learner.name}"
    began = time.perf_counter()
    state, metrics = engine.run(state, np.int32(stop - number), engine.problem)
    told_of_each = jax.device_get(metrics._replace(finite=()))
    losses = told_of_each.train_loss[: stop - number]
    seconds = as_process_0_has_it((time.perf_counter() - began) / (stop - number))
    # A round's loss tells of what came before it, the params at the end of the last round.
    sound = np.append(np.isfinite(losses), bool(metrics.finite))
    if not sound.all():
        raise diverged(config, learner, f"round {min(number + 1 + int(np.argmin(sound)), stop)}{whose}")
    told = {}
    if stop % config.eval_every == 0 or stop == config.rounds:
        told = scalars(finite(learner.scored(state, engine.plan), diverged(config, learner, f"round {stop}{whose}")))
        told |= spent_after(config, stop)
    clients = told_of_each.clients.tolist()
    ups = [size * up for size in clients]
    if told_of_each.sent is not None:
        ups = [int(high) * 2**16 + int(low) for high, low in told_of_each.sent]
    asked = clients if learner.timetable is None else learner.timetable.asked[number:stop].tolist()
    records = [
        {
            "round": number + 1 + place, **UNSCORED, "train_loss": float(loss) if size else None,
            "bytes_up": ups[place], "bytes_down": asked[place] * down, "seconds": seconds,
            "cohort": size, **(drift_at(told_of_each.drift, place) if size else {}),
            **told_of_round(learner, number + 1 + place),
        }
        for place, (loss, size) in enumerate(zip(losses, clients, strict=False))
    ]  # fmt: skip
    records[-1] |= told
    return state, records


def drift_at(drift: Drift | None, place: int) -> dict[str, float]:
    """A round's part of its line; nothing where it was not measured. Null: the updates add up to 0, or overflow."""
    told = {} if drift is None else {name: float(values[place]) for name, values in drift._asdict().items()}
    return {name: value if math.isfinite(value) else None for name, value in told.items()}
