"""What a run will take of a device's memory, read off the compiled program before anything is allocated."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from cachefl_jax import machine
from cachefl_jax.federation.place import CLIENTS, by_class, padded
from cachefl_jax.federation.plan import Plan
from cachefl_jax.federation.problem import Problem, ServerState, tree_bytes

ONE_DEVICE = Plan()


class Footprint(NamedTuple):
    """Bytes on one device; a CPU's devices share one memory, and with it data and Gram matrices."""

    data: int  # rows, who holds what, frozen weights; of a CPU, all devices' rows
    gram: int  # the clients' Gram matrices, in the dual strategy
    params: int
    optimizer_state: int  # the server's; what it sends beside the params and keeps for the round's parts
    temporaries: int  # what the program itself needs while it runs
    clients: int = 0  # what clients keep from round to round; of a CPU, all of them

    @property
    def total(self) -> int:
        return sum(self)


def footprint(
    compiled: jax.stages.Compiled, state: ServerState, problem: Problem, plan: Plan = ONE_DEVICE
) -> Footprint:
    """What `compiled` (from `compile_run`, by the plan) needs for arguments of these shapes."""

    def bytes_of(*trees, lead: tuple = ()) -> int:
        """On one of the devices that share the classes, or the rows."""
        if plan.class_devices == 1 and not lead:
            return tree_bytes(trees)

        def share(leaf):
            of_all = jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf))
            return jax.ShapeDtypeStruct(by_class(plan, of_all, lead).shard_shape(of_all.shape), of_all.dtype)

        return tree_bytes(jax.tree.map(share, trees))

    data = problem.data, problem.root, problem.frozen
    if jax.default_backend() == "cpu":
        of_data, of_clients = tree_bytes(data), tree_bytes(state.clients)
    else:
        of_clients = bytes_of(padded(state, plan).clients, lead=(CLIENTS,))
        of_data = bytes_of(problem.data, lead=(CLIENTS,) if plan.own_rows else ()) + bytes_of(*data[1:])
    analysis = compiled.memory_analysis()
    # Results that do not take over a donated argument's place are extra.
    extra = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    numbers = problem.hyper, problem.server, problem.part_hyper
    return Footprint(
        data=tree_bytes((problem.clients, problem.schedule, numbers)) + of_data,
        gram=tree_bytes(problem.gram),
        params=bytes_of(state.params),
        optimizer_state=bytes_of(state.optimizer_state, state.shared, state.parts),
        temporaries=analysis.temp_size_in_bytes + max(extra, 0),
        clients=of_clients,
    )


def needed(plan: Plan, need: Footprint) -> int:
    """Bytes that a plan takes of what is free: of an accelerator's device, or of the machine by all of a CPU's, which
    share one copy of data and Gram matrices. What clients keep is dealt to the devices."""
    if jax.default_backend() != "cpu":
        return need.total
    shared, copies = need.data + need.gram + need.clients, min(plan.all_devices, jax.local_device_count())
    return shared + copies * (need.total - shared)


def free() -> int | None:
    """Bytes that a device can still give, or the machine to all devices of a CPU; None where the backend does not
    tell."""
    if jax.default_backend() == "cpu":
        return machine.free_memory()
    statistics = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" not in statistics:
        return None
    return statistics["bytes_limit"] - statistics["bytes_in_use"]


def capacity() -> int:
    """Bytes of an accelerator's device, whatever is free of them now; 0 where the backend does not tell."""
    statistics = {} if jax.default_backend() == "cpu" else jax.local_devices()[0].memory_stats() or {}
    return statistics.get("bytes_limit", 0)
