"""Time and memory of this process, with the standard library alone: peers' interpreters read theirs by it as well."""

import pathlib
import resource
import statistics
import sys
import time
from collections.abc import Callable

STATUS, RESET = pathlib.Path("/proc/self/status"), pathlib.Path("/proc/self/clear_refs")


def memory(field: str) -> int | None:
    """VmRSS (now) or VmHWM (highest so far) in bytes; None where there is no /proc."""
    if not STATUS.is_file():
        return None
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


def peak_bytes() -> int:
    """The highest resident memory so far.

    Not `ru_maxrss` where /proc tells it: a child's starts at what its parent held when it was forked.
    """
    peak = memory("VmHWM")
    return peak if peak is not None else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * bytes_per_unit()


def bytes_per_unit() -> int:
    """Of `ru_maxrss`."""
    return 1 if sys.platform == "darwin" else 1024


def forget_peak() -> bool:
    """Lets the highest memory start again from what is held now; False where the system does not offer it."""
    try:
        RESET.write_text("5")
    except OSError:
        return False
    return True


def timed_rounds(step: Callable[[], None], rounds: int, after: Callable[[int], None] = lambda done: None) -> dict:
    """Runs `step` once and then `rounds` times more.

    Args:
        step: one round, finished when it returns.
        rounds: how many count.
        after: called, untimed, with the number of rounds done.

    Returns:
        `timing` of what was seen.
    """
    seconds, cpu_seconds = [], []
    for done in range(1, rounds + 2):
        wall, cpu = time.perf_counter(), time.process_time()
        step()
        seconds.append(time.perf_counter() - wall)
        cpu_seconds.append(time.process_time() - cpu)
        after(done)
    return timing(seconds, cpu_seconds)


def timing(seconds: list[float], cpu_seconds: list[float]) -> dict:
    """The first round apart, which compiles and warms up."""
    return {
        "first_round_s": seconds[0],
        "seconds": seconds[1:],
        "cpu_seconds": cpu_seconds[1:],
        "min_s": min(seconds[1:]),
        "median_s": statistics.median(seconds[1:]),
    }
