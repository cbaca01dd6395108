"""A round over several devices: the program's arrays on them, and the cohort's work added up."""

import functools
from collections.abc import Callable

import jax
from jax.sharding import PartitionSpec

from cachefl_jax.federation.folded import Folded, Members
from cachefl_jax.federation.own_rows import Places, on_group, places_by_owner
from cachefl_jax.federation.participation import deal, undeal
from cachefl_jax.federation.parts import Federation
from cachefl_jax.federation.place import CLIENTS, padded, place, plan_mesh, problem_shardings, state_shardings, whole
from cachefl_jax.federation.plan import Plan
from cachefl_jax.federation.problem import Problem, ServerState, shapes_of
from cachefl_jax.federation.work import Start


def spread_out(body: Callable, plan: Plan, state: ServerState, problem: Problem) -> Callable:
    """`body` (state, other, problem) -> (state, metrics) jitted for arguments of these shapes on the plan's devices.
    The state is donated."""
    if plan.all_devices == 1:
        return jax.jit(body, donate_argnums=0)
    own, rest = state_shardings(padded(state, plan), plan), whole(plan)
    spread = {"in_shardings": (own, rest, problem_shardings(problem, plan)), "out_shardings": (own, rest)}
    return jax.jit(body, donate_argnums=0, **spread)


def on_devices(body: Callable, plan: Plan) -> Callable:
    """`spread_out` for arguments of any shapes, which need not be placed yet."""
    if plan.all_devices == 1:
        return jax.jit(body, donate_argnums=0)
    programs = {}

    def run(given: ServerState, other, problem: Problem):
        # A first state is not yet on all devices: placing it here keeps the second call, whose state comes placed out
        # of the first, from compiling anew.
        uneven = any(len(leaf) % plan.devices for leaf in jax.tree.leaves(given.clients))
        given = place(given, plan) if uneven else jax.device_put(given, state_shardings(given, plan))
        shapes = shapes_of((given, problem))
        if shapes not in programs:
            programs[shapes] = spread_out(body, plan, given, problem)
        return programs[shapes](given, other, problem)

    return run


def cohort_places(plan: Plan, problem: Problem, members: Members) -> Places:
    """How a cohort is dealt to the groups of devices: evenly, or each client to where its rows are."""
    if plan.own_rows:
        return places_by_owner(problem, members.clients, members.counts, plan.devices)
    count = len(members.clients)
    return Places(lambda leaf: deal(leaf, plan.devices), lambda leaf: undeal(leaf, count))


def fold_on_devices(federation: Federation, plan: Plan, fold: Callable, start: Start, members: Members) -> Folded:
    """`fold` of each device's share of the members: one program a device, each with loops of its own length, and one
    sum at the end."""
    aggregation, lead = federation.aggregation, functools.partial(jax.tree.map, lambda leaf: leaf[None])

    def on_one(members: Members, start: Start) -> Folded:
        if plan.own_rows:
            start = start._replace(problem=on_group(start.problem, jax.lax.axis_index(CLIENTS)))
        own = fold(start, jax.tree.map(lambda leaf: leaf[0], members))
        total, loss, spread, states, told = own
        if aggregation.collect is not None:
            total = lead(total)
        elif aggregation.add is not None:
            every = jax.lax.all_gather(total, CLIENTS)
            each = [jax.tree.map(lambda leaf, at=at: leaf[at], every) for at in range(plan.devices)]
            total = functools.reduce(aggregation.merge, each)
        else:
            total = jax.lax.psum(total, CLIENTS)
        loss, spread, told = jax.lax.psum((loss, spread, told), CLIENTS)
        return Folded(total, loss, spread, lead(states), told)

    split, whole = PartitionSpec(CLIENTS), PartitionSpec()
    # Along the classes XLA divides the work itself.
    by_hand = {CLIENTS} if plan.class_devices > 1 else plan_mesh(plan).axis_names
    # With check_vma, a gradient with respect to the params, which all devices share, would be summed over the devices:
    # not the client's own.
    given = jax.tree.map(lambda _: whole, start)
    if plan.own_rows:
        given = given._replace(problem=given.problem._replace(data=jax.tree.map(lambda _: split, start.problem.data)))
    spread = jax.shard_map(
        on_one, mesh=plan_mesh(plan), in_specs=(split, given), check_vma=False, axis_names=set(by_hand),
        out_specs=Folded(split if aggregation.collect else whole, whole, whole, split, whole),
    )  # fmt: skip
    places = cohort_places(plan, start.problem, members)
    folded = spread(jax.tree.map(places.deal, members), start)
    back = functools.partial(jax.tree.map, places.undeal)
    total = back(folded.total) if aggregation.collect else folded.total
    return folded._replace(total=total, states=back(folded.states))
