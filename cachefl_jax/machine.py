"""What this process may use of the machine: cores and memory, within its control group's limits.

Standard library alone, so that a peer's interpreter can ask it too.
"""

import os
import pathlib

GROUPS = pathlib.Path("/sys/fs/cgroup")  # a container's own limits stand at its root
MEMINFO = pathlib.Path("/proc/meminfo")


def cores() -> int:
    """CPU cores that this process may keep busy: by its affinity and its control group's quota."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = numbers(GROUPS / "cpu.max")  # version 2: "quota period" in microseconds, or "max period"
    quota = quota or numbers(GROUPS / "cpu/cpu.cfs_quota_us") + numbers(GROUPS / "cpu/cpu.cfs_period_us")
    if len(quota) == 2 and min(quota) > 0:
        count = min(count, max(quota[0] // quota[1], 1))
    return count


def free_memory() -> int | None:
    """Bytes that Linux says can be had without swapping, within the control group's limit; None elsewhere."""
    if not MEMINFO.is_file():
        return None
    lines = dict(line.split(":") for line in MEMINFO.read_text().splitlines())
    free = int(lines["MemAvailable"].split()[0]) * 1024
    for names in (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")):
        limit, used = (numbers(GROUPS / name) for name in names)
        if limit and used:
            free = min(free, limit[0] - used[0])
    return free


def numbers(file: pathlib.Path) -> list[int]:
    """The whole numbers in a file; none where it is missing or says that there is no limit."""
    words = file.read_text().split() if file.is_file() else []
    return [] if "max" in words else [int(word) for word in words]
