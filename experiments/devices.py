"""JAX before it starts: how many devices, in how many processes, and where compiled programs are kept."""

import contextlib
import os

import jax
from absl import flags

from cachefl_jax.errors import UsageError
from cachefl_jax.files import home

START_TIMEOUT = 120  # seconds to wait for the other processes


def join_processes() -> None:
    """Joins the other processes that the flags name.

    Raises:
        UsageError: the flags do not fit together, or the others did not come.
    """
    coordinator, processes, process = (flags.FLAGS[name].value for name in ("coordinator", "processes", "process"))
    if coordinator is None:
        if processes != 1:
            raise UsageError("--processes", processes, "1, without --coordinator", "add --coordinator=HOST:PORT")
        return
    if coordinator != "auto" and (process is None or not 0 <= process < processes):
        raise UsageError("--process", process, f"0 to --processes - 1, {processes - 1}", "give each process its own")
    given = (None, None, None) if coordinator == "auto" else (coordinator, processes, process)
    try:
        jax.distributed.initialize(*given, initialization_timeout=START_TIMEOUT)
    except (RuntimeError, ValueError) as error:
        value = f"{coordinator} ({str(error).splitlines()[0]})"
        raise UsageError("--coordinator", value, "HOST:PORT of process 0, reachable from all", "correct it") from error


def use_devices(count: int) -> None:
    """Makes sure that there are `count` devices over all processes; splits a CPU into as many before JAX first looks,
    into its cores where `count` is 0. Programs compiled once are found again in the user's store.

    Raises:
        UsageError: there are fewer, or they cannot be dealt evenly to the processes.
    """
    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(home() / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    processes = jax.process_count() if jax.distributed.is_initialized() else 1
    if count % processes:
        raise UsageError("engine.devices", count, f"a multiple of the {processes} processes", "round it, or 0 for all")
    wanted = count // processes or (os.cpu_count() or 1)
    with contextlib.suppress(RuntimeError):  # JAX is already running: what it has is counted below
        jax.config.update("jax_num_cpu_devices", max(wanted, jax.config.jax_num_cpu_devices))
    if jax.device_count() < count:
        raise UsageError("engine.devices", count, f"0 to {jax.device_count()}, the devices there are", "lower it")
