"""One federated round, over any params pytree: who takes part, what each client sends, the aggregate of it, and the
server's step.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cachefl_jax.federation import dual, primal
from cachefl_jax.federation.aggregation import Attackers, Received, proportional, share_of_all
from cachefl_jax.federation.checks import ClientCheck, all_finite
from cachefl_jax.federation.downloads import first_downloads, send_down
from cachefl_jax.federation.folded import Folded, Members, changes_are_updates, drift_of
from cachefl_jax.federation.hostile import hostile_clients
from cachefl_jax.federation.mechanism import Release
from cachefl_jax.federation.participation import by_size
from cachefl_jax.federation.parts import Federation
from cachefl_jax.federation.plan import Plan, check
from cachefl_jax.federation.primal.client import first_mechanism, init_client, update_shape
from cachefl_jax.federation.primal.root import update_of_server
from cachefl_jax.federation.problem import (
    Cohort,
    PartStates,
    Problem,
    RoundMetrics,
    ServerState,
    in_view,
)
from cachefl_jax.federation.schedule import AS_EVER, Pace
from cachefl_jax.federation.spread import fold_on_devices, on_devices
from cachefl_jax.federation.timetable import parts_of, places_of
from cachefl_jax.federation.work import Params, Start, server_key
from cachefl_jax.precision import run_precision

MECHANISM = np.uint32(2**32 - 5)  # folded into a round's key; no client has this number


def init_server(federation: Federation, params: Params, problem: Problem) -> ServerState:
    """The server before round 1, for `params` of float32 leaves.

    Copies them, because a round gives its input's buffers away, and gives Python numbers the type that a round returns.
    """
    params = jax.tree.map(lambda leaf: jnp.array(leaf, jnp.result_type(leaf)), params)
    optimizer, count = federation.server(problem.server), problem.clients.count // federation.local.views
    own = init_client(federation, params, problem)
    clients = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count, *jnp.shape(leaf))), own)
    clients = clients if jax.tree.leaves(clients) else ()
    shared = federation.local.work.shared(params)
    parts = init_parts(federation, params, problem, count)
    return ServerState(jnp.zeros((), jnp.int32), params, optimizer.init(params), shared, clients, parts)


def init_parts(federation: Federation, params: Params, problem: Problem, clients: int) -> PartStates | tuple:
    """What the server keeps for the round's parts at round 0; () where that is nothing."""
    aggregation = ()
    if federation.aggregation.keep is not None:
        aggregation = federation.aggregation.state(update_shape(federation, params, problem), clients)
    downloads = first_downloads(federation, params) if federation.downloads else ()
    versions = ()
    if federation.versions:
        versions = jax.tree.map(lambda leaf: jnp.zeros((federation.versions, *leaf.shape), leaf.dtype), params)
    parts = PartStates(aggregation, first_mechanism(federation, params, problem), downloads, versions)
    return jax.tree.map(jnp.array, parts) if jax.tree.leaves(parts) else ()


def prepare(federation: Federation, plan: Plan, problem: Problem) -> Problem:
    """The problem with what a strategy computes once a run. Traced."""
    if plan.strategy != "dual":
        return problem
    with run_precision():
        return problem._replace(gram=dual.gram_matrices(federation.local, problem.clients, problem.data))


def make_round(federation: Federation, plan: Plan) -> Callable:
    """The jitted round: (state, cohort, problem) -> (state, metrics). The state's buffers are donated.

    Args:
        federation: what a round is made of.
        plan: how the cohort is spread over time and devices. Whatever it says, the result is the same up to float32's
            rounding; with the same plan, it is the same bits for every order of the cohort.

    The result raises a ValueError for a plan that cannot train this, and for clients whose rows are not their own or
    too many (`checks.check_clients`).
    """
    check_once, federation = ClientCheck(federation.local), federation._replace(sizes=())  # any cohort may come

    def one_round(state: ServerState, cohort: Cohort, problem: Problem) -> tuple[ServerState, RoundMetrics]:
        ordered = by_size(cohort, in_view(problem.clients, federation.local.views, 0))
        return train_round(federation, plan, state, ordered, problem)

    compiled = on_devices(one_round, plan)

    def checked(state: ServerState, cohort: Cohort, problem: Problem) -> tuple[ServerState, RoundMetrics]:
        check_once(problem.clients, problem.data)
        return compiled(state, cohort, problem)

    return checked


def train_round(
    federation: Federation,
    plan: Plan,
    state: ServerState,
    ordered: tuple[jax.Array, jax.Array],
    problem: Problem,
    pace: Pace = AS_EVER,
) -> tuple[ServerState, RoundMetrics]:
    """A round, not jitted; `ordered` is what `by_size` gives, `pace` how these clients work."""
    opened = open_round(federation, state, ordered, problem, pace)
    with run_precision(), federation.local.work.arithmetic():
        folded = fold_cohort(federation, plan, opened.start, opened.members)
    return close_round(federation, state, opened, folded)


class Opened(NamedTuple):
    """A round before its clients work."""

    start: Start
    members: Members
    received: Received  # what the aggregation will know of them
    downloads: tuple


def open_round(
    federation: Federation,
    state: ServerState,
    ordered: tuple[jax.Array, jax.Array],
    problem: Problem,
    pace: Pace = AS_EVER,
) -> Opened:
    """What the clients of a round start from, and what each of them counts; arguments as of `train_round`. Traced."""
    chosen, counts = ordered  # the same in all views of the data
    problem = problem._replace(clients=in_view(problem.clients, federation.local.views, state.round))
    aggregation, present = federation.aggregation, counts > 0
    key = jax.random.fold_in(problem.key, state.round)
    parts = state.parts or PartStates()
    begun, downloads = send_down(federation, state, problem) if federation.downloads else (state.params, ())
    hostile = hostile_clients(problem, state.round)
    start = Start(begun, state.shared, problem, state.round, key, parts.mechanism, hostile)
    if federation.versions:
        start = start._replace(versions=newest_added(parts.versions, begun, state.round))
    weights, hyper = aggregation.weigh(counts, present), problem.part_hyper.aggregation
    if pace.discounts is not None:
        weights = weights * pace.discounts
    received = Received(weights, present, hyper, chosen, server_key(key), parts.aggregation)
    if hostile is not None:
        received = received._replace(hostile=Attackers(hostile[chosen], problem.hostile.strength))
    members = Members(
        chosen, counts, received.weights, proportional(counts, present), states_of(federation, state, chosen),
        pace.steps, pace.ages,
    )  # fmt: skip
    return Opened(start, members, received, downloads)


def close_round(
    federation: Federation, state: ServerState, opened: Opened, folded: Folded
) -> tuple[ServerState, RoundMetrics]:
    """The server's part of a round, after its clients' work has been added up. Traced."""
    start, members, received, downloads = opened
    aggregation, problem, present = federation.aggregation, start.problem, received.present
    parts = state.parts or PartStates()
    with run_precision(), federation.local.work.arithmetic():
        if aggregation.root:
            received = received._replace(root=update_of_server(federation, start))
        aggregate = aggregated(federation, folded, received)
        attending = present.sum(dtype=jnp.int32)
        kept = () if aggregation.keep is None else aggregation.keep(folded.total, aggregate, received)
        mechanism = ()
        if federation.mechanism is not None:
            own, numbers = jax.random.fold_in(start.key, MECHANISM), problem.part_hyper.mechanism
            release = Release(own, state.round, attending, folded.told, numbers)
            aggregate, mechanism = federation.mechanism.release(aggregate, parts.mechanism, release)
        change, shared = aggregate, state.shared
        if federation.local.work.apply is not None:
            share = share_of_all(aggregation, jnp.diff(problem.clients.offsets), members.clients, received)
            change, shared = federation.local.work.apply(aggregate, start, share)
        params, optimizer_state = server_step(federation, state, change, problem)
        drift = None
        if folded.spread is not None:
            mean = folded.total if changes_are_updates(federation) else folded.spread.change
            drift = drift_of(folded.spread, mean, received.weights)
    clients = state.clients and written(state.clients, members.clients, present, folded.states)
    sent = measured_bytes(federation, folded, present)
    told = RoundMetrics(folded.loss, members.counts.sum(), all_finite(params), attending, drift, sent)
    parts = state.parts and PartStates(kept, mechanism, downloads, start.versions if federation.versions else ())
    return ServerState(state.round + 1, params, optimizer_state, shared, clients, parts), told


def newest_added(versions, params: Params, number: jax.Array):
    """The versions of the params [H, ...] with those that round `number` begins with."""
    return jax.tree.map(lambda kept, new: kept.at[number % len(kept)].set(new), versions, params)


def states_of(federation: Federation, state: ServerState, chosen: jax.Array):
    """What the cohort's clients keep, [M, ...]; in an empty place some client's."""
    if state.clients:
        return jax.tree.map(lambda leaf: leaf[chosen], state.clients)
    return (), ((),) * len(federation.transforms)


def written(clients, chosen: jax.Array, present: jax.Array, new):
    """What all clients keep, [C, ...], with those of a cohort [M, ...] who are present."""
    nobody = jax.tree.leaves(clients)[0].shape[0]
    places = jnp.where(present, chosen, nobody)
    return jax.tree.map(lambda leaf, own: leaf.at[places].set(own, mode="drop"), clients, new)


def measured_bytes(federation: Federation, folded: Folded, present: jax.Array) -> jax.Array | None:
    """What those present have sent, where that depends on their updates, [2] uint32: in 65,536 bytes, and the rest."""
    place = federation.measures
    if place is None:
        return None
    sizes = jnp.where(present, federation.transforms[place].measured(folded.states[1][place]), 0)
    return jnp.stack([(sizes >> 16).sum(dtype=jnp.uint32), (sizes & 0xFFFF).sum(dtype=jnp.uint32)])


def aggregated(federation: Federation, folded: Folded, received: Received):
    """What the server gets of the cohort's updates."""
    aggregation, total = federation.aggregation, folded.total
    if aggregation.collect is not None:
        total = aggregation.collect(total, received)
    elif aggregation.linear and federation.local.work.scale is not None:
        weight = jnp.maximum(received.weights.sum(), jnp.finfo(jnp.float32).tiny)
        total = (total[0], jax.tree.map(lambda number: number / weight, total[1]))
    return total if aggregation.finish is None else aggregation.finish(total, received)


def server_step(federation: Federation, state: ServerState, change: Params, problem: Problem) -> tuple:
    """(params, the optimizer's state) after a step by the negated change."""
    optimizer = federation.server(problem.server)
    gradient = jax.tree.map(jnp.negative, change)
    updates, optimizer_state = optimizer.update(gradient, state.optimizer_state, state.params)
    return optax.apply_updates(state.params, updates), optimizer_state


def fold_cohort(federation: Federation, plan: Plan, start: Start, members: Members) -> Folded:
    """The cohort's work, added up over the devices."""
    width = jax.tree.leaves(start.params)[0].shape[-1] if plan.strategy == "dual" else 0
    check(plan, federation, width)
    places = places_of(federation, plan, len(members.clients), start.problem.clients.count, width)
    fold = functools.partial(fold_share, federation._replace(sizes=places[0], exact=places[1]), plan)
    return fold(start, members) if plan.devices == 1 else fold_on_devices(federation, plan, fold, start, members)


def fold_share(federation: Federation, plan: Plan, start: Start, members: Members) -> Folded:
    """The work of one device's members."""
    if plan.strategy == "dual":
        return dual.fold_blocks(federation, plan, start, members)
    if plan.strategy == "scan":
        return primal.fold_scan(federation, start, members)
    known = sum(count for _, count in federation.sizes)
    parts = parts_of(federation.sizes, (0, known), plan.client_chunk, exact=federation.exact)
    if parts is None:
        return primal.fold_chunks(federation, plan.client_chunk, start, members)
    return primal.fold_parts(federation, parts, start, members)
