"""JAX before it starts: how many devices, in how many processes, and where compiled programs are kept."""

import contextlib
import signal
from collections.abc import Iterator
from typing import NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from cachefl_jax import interrupts
from cachefl_jax.compiled import replace_damaged_entries
from cachefl_jax.errors import UsageError
from cachefl_jax.machine import cores
from cachefl_jax.precision import choose_precision, forget_precision
from cachefl_jax.simulation import peers
from cachefl_jax.simulation.environment import device_count, settle
from cachefl_jax.storage.home import COMPILED, home

START_TIMEOUT = 120  # seconds to wait for the other processes


def join_processes(coordinator: str | None, processes: int, process: int | None) -> None:
    """Joins the other processes that the flags --coordinator, --processes and --process name.

    Raises UsageError: the flags do not fit together, or the others did not come."""
    if coordinator is None:
        if processes != 1 or process is not None:
            raise UsageError("--processes", processes, "1, without --coordinator", "add --coordinator=HOST:PORT")
        return
    if coordinator != "auto" and (process is None or not 0 <= process < processes):
        raise UsageError("--process", process, f"0 to --processes - 1, {processes - 1}", "give each process its own")
    given = (None, None, None) if coordinator == "auto" else (coordinator, processes, process)
    peers.watch()
    peers.state.processes = processes
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM from `cachefl_jax.interrupts`
    try:
        jax.distributed.initialize(
            *given, initialization_timeout=START_TIMEOUT, heartbeat_timeout_seconds=peers.HEARTBEAT
        )
    except (RuntimeError, ValueError, IndexError) as error:
        value = f"{coordinator} ({str(error).splitlines()[0]})"
        raise UsageError("--coordinator", value, "HOST:PORT of process 0, reachable from all", "correct it") from error


def use_engine(*engines: ConfigDict) -> None:
    """Makes ready what the `engine` parts of this process's configs ask for: devices, and the precision of products.

    Raises UsageError: as `use_devices`, or they ask for different precisions."""
    asked = sorted({engine.precision for engine in engines})
    if len(asked) > 1:
        raise UsageError("engine.precision", ", ".join(asked), "one for all that is compared", "run them one by one")
    forget_precision()  # of a run before: `settle` would take it for the environment's
    for engine in engines:
        use_devices(engine.devices)
    choose_precision(*asked)


def use_devices(count: int) -> None:
    """Makes sure that there are `count` devices over all processes; splits a CPU into as many before JAX first looks,
    into its cores where `count` is 0; where JAX runs already, it keeps what it has. Programs compiled once are found
    again in the user's store.

    Raises UsageError: there are fewer, they cannot be dealt evenly to the processes, or the environment names a
    platform that is not to be had."""
    settle()
    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(home() / COMPILED))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    replace_damaged_entries()
    processes = peers.state.processes
    if count % processes:
        raise UsageError("engine.devices", count, f"a multiple of the {processes} processes", "round it, or 0 for all")
    wanted, known, mend = count // processes or cores(), "there are", "lower it"
    try:
        jax.config.update("jax_num_cpu_devices", max(wanted, jax.config.jax_num_cpu_devices))
    except RuntimeError:  # JAX is already running: what it has is counted below
        known, mend = "that JAX runs with in this process", "lower it, or begin with the most in a new process"
    there = device_count()
    if there < count:
        raise UsageError("engine.devices", count, f"0 to {there}, the devices {known}", mend)


def as_process_0_has_it(value: float) -> float:
    """The same number in every process, so that all of them do the same next."""
    if jax.process_count() == 1:
        return value
    return float(multihost_utils.broadcast_one_to_all(np.float32(value)))


def in_any_process(number: int | None) -> int | None:
    """The largest of the numbers that processes have; None where none has one. So all of them leave together."""
    if jax.process_count() == 1:
        return number
    return int(np.max(multihost_utils.process_allgather(np.int32(number or 0)))) or None


def leave_together(number: int) -> NoReturn:
    """Leaves as the signal asks, once every process is ready to: none is then missed by another.

    Raises Interrupted: always."""
    if jax.process_count() > 1:
        if interrupts.asked() is None:
            interrupts.tell(f"{signal.Signals(number).name} in another process: left; {interrupts.HINT}")
        jax.distributed.shutdown()
    raise interrupts.Interrupted(number)


@contextlib.contextmanager
def entered_by_process_0(lock: contextlib.AbstractContextManager) -> Iterator[None]:
    """Enters `lock` in process 0 alone, for all of them. Where it is refused there, none goes on.

    Raises UsageError: it was refused; process 0 says why."""
    refusal = None
    with contextlib.ExitStack() as stack:
        if jax.process_index() == 0:
            try:
                stack.enter_context(lock)
            except UsageError as error:
                refusal = error
        refused = as_process_0_has_it(float(refusal is not None))
        if refusal is not None:
            raise refusal
        if refused:
            value = f"{jax.process_index()} (process 0 was refused the run's folder)"
            raise UsageError("--process", value, "a run that process 0 goes on with", "see what process 0 says")
        yield


def least(count: int) -> int:
    """The smallest of all processes' numbers of bytes, to the KiB."""
    if jax.process_count() == 1:
        return count
    return int(np.min(multihost_utils.process_allgather(np.int32(count // 1024)))) * 1024
