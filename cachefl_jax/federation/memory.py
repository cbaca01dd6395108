"""What a run will take of a device's memory, read off the compiled program before anything is allocated."""

import pathlib
from typing import NamedTuple

import jax

from cachefl_jax.federation.plan import Plan
from cachefl_jax.federation.problem import Problem, ServerState


class Footprint(NamedTuple):
    """Bytes on one device."""

    data: int  # rows, who holds what, frozen weights
    gram: int  # the clients' Gram matrices, in the dual strategy
    params: int
    optimizer_state: int  # the server's; the clients' are among the temporaries
    temporaries: int  # what the program itself needs while it runs

    @property
    def total(self) -> int:
        return sum(self)


def footprint(compiled: jax.stages.Compiled, state: ServerState, problem: Problem) -> Footprint:
    """What `compiled` (from `compile_run`) needs for arguments of these shapes."""
    analysis = compiled.memory_analysis()
    # Results that do not take over a donated argument's place are extra.
    extra = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    return Footprint(
        data=size((problem.clients, problem.data, problem.frozen, problem.hyper, problem.server)),
        gram=size(problem.gram),
        params=size(state.params),
        optimizer_state=size(state.optimizer_state),
        temporaries=analysis.temp_size_in_bytes + max(extra, 0),
    )


def size(tree) -> int:
    """Bytes of a pytree's leaves, which may be shapes alone."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def available(plan: Plan, need: Footprint, held: Footprint | None = None) -> int | None:
    """Bytes that each of the plan's devices can still give to such a need; None where the backend does not tell.

    CPU devices share the machine's memory, and one copy of data and Gram matrices. `held` is what another plan keeps
    there until one is chosen: its data and Gram matrices do not count.
    """
    device, regained = jax.local_devices()[0], held.data + held.gram if held else 0
    if device.platform == "cpu":
        free, shared = free_host_memory(), need.data + need.gram
        if free is None:
            return None
        return shared + (free + regained - shared) // min(plan.devices, jax.local_device_count())
    statistics = device.memory_stats() or {}
    if "bytes_limit" not in statistics:
        return None
    return statistics["bytes_limit"] - statistics["bytes_in_use"] + regained


def free_host_memory() -> int | None:
    """What Linux says can be had without swapping, within the control group's limit."""
    meminfo = pathlib.Path("/proc/meminfo")
    if not meminfo.is_file():
        return None
    lines = dict(line.split(":") for line in meminfo.read_text().splitlines())
    free = int(lines["MemAvailable"].split()[0]) * 1024
    limit, used = (pathlib.Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current"))
    if limit.is_file() and used.is_file() and limit.read_text().strip() != "max":
        free = min(free, int(limit.read_text()) - int(used.read_text()))
    return free
