"""A sweep's points end where each would alone: to the bit one after another, up to rounding side by side."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cachefl_jax.federation import (
    Clients,
    Federation,
    Plan,
    Point,
    add_gram,
    compile_run,
    init_server,
    make_sweep,
    plan_batches,
    score_rows,
    stack,
)
from cachefl_jax.methods.cachefl import Cache, cachefl

pytestmark = pytest.mark.quick

PLANS = [Plan("scan"), Plan("dual", 2, 1, 64)]
ROUNDS, EVERY = (4, 4, 3, 4, 4), (2, 4, 2, 2, 2)


@pytest.fixture(scope="module")
def make_points(make_federation):
    return functools.cache(lambda: five_points(make_federation([10, 8, 12])))


def five_points(base) -> list[Point]:
    """They differ in seed, rates, alpha, partition, start and rounds, and share 30 rows."""
    problem, cache = base.problem, base.params
    others = Clients(jnp.asarray([0, 3, 25, 30], jnp.int32), jnp.asarray(np.arange(30)[::-1].copy(), jnp.int32))
    problems = [
        problem,
        problem._replace(key=jax.random.key(8)),
        problem._replace(clients=others, server=problem.server._replace(learning_rate=jnp.float32(0.5))),
        problem._replace(
            hyper=problem.hyper._replace(learning_rate=jnp.float32(0.02), weight_decay=jnp.float32(0.2)),
            frozen=problem.frozen._replace(alpha=jnp.float32(5.0), beta=jnp.float32(1.0)),
        ),
        problem,
    ]
    starts = [cache] * 4 + [Cache(-cache.keys)]
    return [
        Point(params, each, np.int32(rounds), np.int32(every))
        for params, each, rounds, every in zip(starts, problems, ROUNDS, EVERY, strict=True)
    ]


@functools.cache
def ends_alone(local, plan, make_points) -> list[np.ndarray]:
    """Each point's keys after its rounds in a run of its own; compiled once."""
    run, ends = None, []
    for point in make_points():
        problem = add_gram(Federation(local), plan, point.problem)
        state = init_server(Federation(local), point.params, problem)
        run = run or compile_run(Federation(local), plan, 4, state, problem)
        ends.append(np.asarray(run(state, point.rounds, problem)[0].params.keys))
    return ends


def right(state, problem, data):
    return score_rows(cachefl.logits, False, state.params, problem.frozen, data).right


@jax.jit
def right_alone(params, frozen, data):
    return score_rows(cachefl.logits, False, params, frozen, data).right


@pytest.mark.parametrize("plan", PLANS, ids=str)
@pytest.mark.parametrize(("side_by_side", "devices"), [(False, 1), (True, 1), (False, 4)])
def test_every_point_ends_where_it_would_alone(make_points, make_local, plan, side_by_side, devices):
    points = make_points()[: 5 // devices * devices]  # dealt evenly
    local = make_local(*plan_batches(4, 22), optimizer="sgd")
    sweep = make_sweep(Federation(local), plan, right, 2, side_by_side=side_by_side, devices=devices)
    data = points[0].problem.data
    outcome = sweep(*stack(points), data)
    tolerance = 1e-6 if side_by_side else 0
    ends = ends_alone(local, plan, make_points)
    for number, point in enumerate(points):
        np.testing.assert_allclose(outcome.params.keys[number], ends[number], rtol=0, atol=tolerance)
        segments = -(-int(point.rounds) // int(point.eval_every))
        last = outcome.scores[number, segments - 1]
        cache, frozen = Cache(jnp.asarray(ends[number])), point.problem.frozen
        assert last.tolist() == right_alone(cache, frozen, data).tolist()
        assert (np.asarray(outcome.train_loss[number, :segments]) > 0).all()
    assert min(np.abs(ends[0] - other).max() for other in ends[1:]) > 1e-3


def test_what_all_points_share_is_not_stacked(make_points):
    points = make_points()
    varying, shared = stack(points)
    assert varying.problem.data.features is None
    assert shared.problem.data.features is points[0].problem.data.features
    assert varying.problem.clients.indices.shape == (5, 30)
    assert varying.problem.hyper.momentum is None
    assert varying.problem.hyper.learning_rate.shape == (5,)
    varying, shared = stack(points[:1] * 2)
    assert len(jax.tree.leaves(varying)) == 1
