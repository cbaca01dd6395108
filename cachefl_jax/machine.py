"""What this process may use of the machine: cores and memory, within the limits of its control groups.

A group's limits bind all groups below it, so every group from the process's own up to the root is asked. Linux has two
versions of them, and a machine may use both at once.

Standard library alone, so that a peer's interpreter can ask it too.
"""

import os
import pathlib
from collections.abc import Iterator

GROUPS = pathlib.Path("/sys/fs/cgroup")  # where groups are mounted; a container sees its own group there
MEMBERSHIP = pathlib.Path("/proc/self/cgroup")  # lines "number:controllers:path"; version 2 names no controllers
MEMINFO = pathlib.Path("/proc/meminfo")


def cores() -> int:
    """CPU cores that this process may keep busy: by its affinity and its control groups' quotas."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [numbers(group / "cpu.max") for group in groups("")]  # "quota period" in microseconds, or "max period"
    quotas += [numbers(group / "cpu.cfs_quota_us") + numbers(group / "cpu.cfs_period_us") for group in groups("cpu")]
    for quota in quotas:
        if len(quota) == 2 and min(quota) > 0:
            count = min(count, max(quota[0] // quota[1], 1))
    return count


def free_memory() -> int | None:
    """Bytes that Linux says can be had without swapping, within the control groups' limits; None elsewhere."""
    if not MEMINFO.is_file():
        return None
    lines = dict(line.split(":") for line in MEMINFO.read_text().splitlines())
    free = int(lines["MemAvailable"].split()[0]) * 1024
    for group in groups(""):
        free = min([free, *left(group, "memory.max", "memory.current", ("inactive_file",))])
    for group in groups("memory"):
        # Usage counts the groups below too, and of the file cache only the total does.
        cached = ("total_inactive_file", "inactive_file")
        free = min([free, *left(group, "memory.limit_in_bytes", "memory.usage_in_bytes", cached)])
    return free


def left(group: pathlib.Path, limit: str, usage: str, cached: tuple[str, ...]) -> list[int]:
    """The bytes that a group still gives, if it has a limit: [one number] or [].

    A group's usage counts the cache of files that were read or written. The kernel drops the inactive part of it
    when memory is wanted, so that part is free.
    """
    most, used = numbers(group / limit), numbers(group / usage)
    if not (most and used):
        return []
    statistics = dict(line.split(maxsplit=1) for line in content(group / "memory.stat").splitlines())
    inactive = next((int(statistics[name]) for name in cached if name in statistics), 0)
    return [max(most[0] - max(used[0] - inactive, 0), 0)]


def groups(controller: str) -> Iterator[pathlib.Path]:
    """The folders of this process's group and of all above it, for one controller of version 1, or "" for version 2.

    A path that is not there is passed over: in a container it may be the host's, with the container's own group
    mounted at the root.
    """
    for mount, path in mounts(controller):
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(parts), -1, -1):
            folder = mount.joinpath(*parts[:depth])
            if folder.is_dir():
                yield folder


def mounts(controller: str) -> list[tuple[pathlib.Path, str]]:
    """(where a controller may be mounted, the process's path there); the root's where the process is said to be in
    none."""
    paths = {}
    for line in content(MEMBERSHIP).splitlines():
        _, names, path = line.split(":", 2)
        paths |= {name: (names, path) for name in names.split(",")}
    names, path = paths.get(controller, (controller, "/"))
    places = ["", "unified"] if not controller else dict.fromkeys([controller, names])
    return [(GROUPS / place, path) for place in places]


def numbers(file: pathlib.Path) -> list[int]:
    """The whole numbers in a file; none where it is missing or says that there is no limit."""
    words = content(file).split()
    return [] if "max" in words else [int(word) for word in words]


def content(file: pathlib.Path) -> str:
    """A file's text; nothing where it is missing or not to be read."""
    try:
        return file.read_text()
    except OSError:
        return ""
