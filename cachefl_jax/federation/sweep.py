"""Many whole runs as one program: seeds, rates, alpha, beta and partitions are leaves of the points' arrays.

Points run one after another (`jax.lax.map`), each by the very loops of a run on its own, so that it ends in the same
bits; or side by side (`jax.vmap`), up to rounding; and in both cases dealt to the devices along an axis `sweep`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from cachefl_jax.federation.checks import all_finite, check_clients, count_rows
from cachefl_jax.federation.local import LocalTraining, Params
from cachefl_jax.federation.parts import Federation
from cachefl_jax.federation.plan import Plan
from cachefl_jax.federation.problem import Problem
from cachefl_jax.federation.round import init_server, prepare
from cachefl_jax.federation.run import train_rounds


class Point(NamedTuple):
    """One run of a sweep."""

    params: Params  # the server's at round 0
    problem: Problem
    rounds: jax.Array  # []
    eval_every: jax.Array  # [] rounds between two evaluations; the last round is evaluated in any case


class Outcome(NamedTuple):
    """What a point leaves. E is the most evaluations of any point; a point with fewer has zeros after them."""

    params: Params
    scores: object  # of each evaluation: what `evaluate` gives, with a leading [E]
    train_loss: jax.Array  # [E] of the round before each evaluation
    finite: jax.Array  # [] bool, no number of the params is NaN or infinite


def make_sweep(
    federation: Federation,
    plan: Plan,
    evaluate: Callable,
    evaluations: int,
    *,
    side_by_side: bool = False,
    devices: int = 1,
) -> Callable:
    """The jitted sweep: (stacked leaves, shared leaves, shared arrays for `evaluate`) -> Outcome [S, ...]. Its `lower`
    compiles it from shapes.

    Args:
        federation: what a round is made of, with the capacity of the largest client of all points.
        plan: how each round is run, on one device.
        evaluate: (state, problem, data) -> scores, any pytree; traced.
        evaluations: E.
        side_by_side: vmap over the points of a device. Closed forms are solved point by point all the same: `jax.vmap`
            would go over the rounds' loop outside of its float64.
        devices: over how many devices the points are dealt; S is a multiple of it.
    """

    def run_point(point: Point, data) -> Outcome:
        problem = prepare(federation, plan, point.problem)
        state = init_server(federation, point.params, problem)
        scores = jax.tree.map(
            lambda one: jnp.zeros((evaluations, *one.shape), one.dtype),
            jax.eval_shape(evaluate, state, problem, data),
        )

        def segment(number, carry):
            state, scores, losses = carry
            count = jnp.minimum(point.eval_every, point.rounds - number * point.eval_every)
            state, metrics = train_rounds(federation, plan, 1, state, count, problem)
            new = evaluate(state, problem, data)
            scores = jax.tree.map(lambda all_of_them, one: all_of_them.at[number].set(one), scores, new)
            return state, scores, losses.at[number].set(metrics.train_loss[0])

        segments = -(-point.rounds // point.eval_every)
        start = (state, scores, jnp.zeros(evaluations))
        state, scores, losses = jax.lax.fori_loop(0, segments, segment, start)
        return Outcome(state.params, scores, losses, all_finite(state.params))

    def run_points(varying, shared, data):
        join = lambda leaves: combine(leaves, shared)  # noqa: E731
        if side_by_side and federation.local.work.statistics is None:
            return jax.vmap(lambda leaves: run_point(join(leaves), data))(varying)
        return jax.lax.map(lambda leaves: run_point(join(leaves), data), varying)

    if devices == 1:
        return checked(federation.local, jax.jit(run_points))
    mesh = jax.make_mesh((devices,), ("sweep",), (AxisType.Auto,), devices=jax.devices()[:devices])
    split, whole = PartitionSpec("sweep"), PartitionSpec()
    # As in `round.fold_on_devices`: every device differentiates for itself.
    spread = jax.shard_map(run_points, mesh=mesh, in_specs=(split, whole, whole), out_specs=split, check_vma=False)
    placed = [NamedSharding(mesh, spec) for spec in (split, whole, whole)]
    return checked(federation.local, jax.jit(spread, in_shardings=tuple(placed), out_shardings=placed[0]))


def checked(local: LocalTraining, sweep: Callable) -> Callable:
    """`sweep`, which raises a ValueError where a point's clients have rows that are not their own or too many."""

    def run(varying: Point, shared: Point, data) -> Outcome:
        clients = combine(varying.problem.clients, shared.problem.clients)
        first = jax.tree.map(lambda leaf: leaf[0], varying.problem.data)
        check_clients(local, clients, count_rows((first, shared.problem.data)))
        return sweep(varying, shared, data)

    run.lower = sweep.lower
    return run


def alike(points: list[Point]) -> list[bool]:
    """Of each leaf, whether it is the same in all points."""
    every = zip(*(jax.tree.leaves(point) for point in points), strict=True)
    return [all(same(leaf, leaves[0]) for leaf in leaves) for leaves in every]


def stack(points: list[Point], common: list[bool] | None = None) -> tuple[Point, Point]:
    """(varying, shared): leaves that differ between the points, stacked to [S, ...], and those that do not.

    Each has None where the other has the leaf. `common` is what `alike` says of these points and others that go
    through the same program.
    """
    structure = jax.tree.structure(points[0])
    every = zip(*(jax.tree.leaves(point) for point in points), common or alike(points), strict=True)
    varying, shared = [], []
    for *leaves, is_common in every:
        shared.append(leaves[0] if is_common else None)
        varying.append(None if is_common else pile(leaves))
    varying, shared = jax.tree.unflatten(structure, varying), jax.tree.unflatten(structure, shared)
    # Always one of the varying, so that there is a leaf to map over.
    return varying._replace(rounds=pile([point.rounds for point in points])), shared._replace(rounds=None)


def combine(varying, shared):
    """What `stack` took apart, for one point."""
    return jax.tree.map(
        lambda one, other: other if one is None else one, varying, shared, is_leaf=lambda leaf: leaf is None
    )


def same(leaf, other) -> bool:
    if leaf is other:
        return True
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf, other = jax.random.key_data(leaf), jax.random.key_data(other)
    return leaf.shape == other.shape and np.array_equal(leaf, other)


def pile(leaves):
    """Host arrays stay on the host, typed keys on the device."""
    return jnp.stack(leaves) if isinstance(leaves[0], jax.Array) else np.stack(leaves)
