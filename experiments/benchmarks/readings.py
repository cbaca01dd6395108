"""Time and memory of this process, with the standard library alone: peers' interpreters read theirs by it as well."""

import pathlib
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence

STATUS, RESET = pathlib.Path("/proc/self/status"), pathlib.Path("/proc/self/clear_refs")


def memory(field: str) -> int | None:
    """VmRSS (now) or VmHWM (highest so far) in bytes; None where there is no /proc."""
    if not STATUS.is_file():
        return None
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


def peak_bytes() -> int:
    """The highest resident memory so far.

    Not `ru_maxrss` where /proc tells it: a child's starts at what its parent held when it was forked."""
    peak, unit = memory("VmHWM"), 1 if sys.platform == "darwin" else 1024
    return peak if peak is not None else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def forget_peak() -> bool:
    """Lets the highest memory start again from what is held now; False where the system does not offer it."""
    try:
        RESET.write_text("5")
    except OSError:
        return False
    return True


def timed_rounds(
    step: Callable[[int], None],
    rounds: int,
    after: Callable[[int], None] = lambda done: None,
    at_once: int = 1,
    stops: Sequence[int] = (),
) -> dict:
    """Runs one round and then `rounds` more.

    Args:
        step: so many rounds, finished when it returns.
        after: called, untimed, with the number of rounds done.
        at_once: rounds a call of `step`, once the first is done; each is then said to take its share of the call.
        stops: numbers of rounds done at which a call must end.

    Returns:
        `timing` of what was seen."""
    seconds, cpu_seconds = [], []
    while (done := len(seconds)) <= rounds:
        ends = [stop for stop in (*stops, rounds + 1, done + at_once) if stop > done] if done else [1]
        count = min(ends) - done
        wall, cpu = time.perf_counter(), time.process_time()
        step(count)
        seconds += [(time.perf_counter() - wall) / count] * count
        cpu_seconds += [(time.process_time() - cpu) / count] * count
        after(done + count)
    return timing(seconds, cpu_seconds)


def timing(seconds: list[float], cpu_seconds: list[float]) -> dict:
    """The first round apart: it warms up, and compiles where that has not been done before."""
    return {
        "first_round_s": seconds[0],
        "seconds": seconds[1:],
        "cpu_seconds": cpu_seconds[1:],
        "min_s": min(seconds[1:]),
        "median_s": statistics.median(seconds[1:]),
    }
