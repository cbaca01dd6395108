"""Where a run goes on that was stopped: after the last round of which checkpoint and metrics are whole."""

import sys

import jax

from cachefl_jax.federation import ServerState
from cachefl_jax.simulation.build import Learner
from cachefl_jax.simulation.devices import as_process_0_has_it
from cachefl_jax.simulation.metrics import read_lines
from cachefl_jax.simulation.workdir import Workdir
from cachefl_jax.storage.checkpoint import DamagedCheckpoint, fault, restore, rounds_saved, set_aside


def resume(learner: Learner, workdir: Workdir) -> tuple[ServerState, int]:
    """(the server, the rounds that it has done): the folder's last checkpoint that is whole and up to which metrics are
    whole, too. Damaged ones are set aside; a run without any begins anew."""
    while True:
        number = last_whole_round(workdir) if workdir.writes else 0
        number = int(as_process_0_has_it(number))
        if not number:
            return learner.start(), 0
        try:
            return restore(workdir.checkpoints, learner.start(), number), number
        except DamagedCheckpoint as error:  # which digests could not tell: an older version wrote none
            if jax.process_count() > 1:
                raise
            leave_out(workdir, number, str(error.value))


def last_whole_round(workdir: Workdir) -> int:
    """The round from which the run can go on; 0 where it must begin anew."""
    saved, told = rounds_saved(workdir.checkpoints), len(read_lines(workdir.metrics)) - 1
    if saved and saved[-1] > told:
        lost = f"the line of round {told + 1} is missing or damaged: training goes on before it"
        print(f"{workdir.metrics}: {lost}", file=sys.stderr)
    for number in reversed([number for number in saved if number <= told]):
        why = fault(workdir.checkpoints, number)
        if not why:
            return number
        leave_out(workdir, number, why)
    return 0


def leave_out(workdir: Workdir, number: int, why: str) -> None:
    place = set_aside(workdir.checkpoints, number)
    told = f"the checkpoint of round {number} is damaged ({why}) and was set aside as {place.name}"
    print(f"{workdir.checkpoints}: {told}; training goes on before it", file=sys.stderr)
