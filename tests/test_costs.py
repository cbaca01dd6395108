"""What travels and what a step costs, against what the arrays hold and what XLA counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cachefl_jax.costs import flops_of, round_flops, step_flops
from cachefl_jax.federation import (
    CLIENT_OPTIMIZERS,
    Clients,
    Hyper,
    Linear,
    LocalTraining,
    Problem,
    ServerHyper,
    scaffold,
    tree_bytes,
)
from cachefl_jax.flops import flops
from cachefl_jax.methods import Rows
from cachefl_jax.methods.cachefl import Cache, Frozen, cachefl
from cachefl_jax.methods.method import loss_of_scores, training_loss


@pytest.mark.parametrize("backend", ["as it is", "that counts compiled programs alone", "without a CPU beside it"])
def test_operations_are_counted_whatever_the_backend_tells(monkeypatch, backend):
    if backend == "that counts compiled programs alone":
        monkeypatch.setattr(jax.stages.Lowered, "cost_analysis", lambda lowered: None)
    if backend == "without a CPU beside it":
        monkeypatch.setattr(jax, "local_devices", lambda backend: jax.devices("a backend that is not there"))
    shapes = jax.ShapeDtypeStruct((3, 5), jnp.float32), jax.ShapeDtypeStruct((5, 7), jnp.float32)
    assert flops(jnp.matmul, *shapes) == 2 * 3 * 5 * 7


def test_tree_bytes_counts_every_leaf_as_it_is():
    tree = {"keys": jnp.zeros((10, 16, 8)), "half": [np.zeros(3, np.float16)], "round": jnp.zeros((), jnp.int32)}
    assert tree_bytes(tree) == 4 * 10 * 16 * 8 + 2 * 3 + 4
    assert tree_bytes(()) == 0


@pytest.mark.parametrize(("classes", "keys", "megabytes"), [(1000, 16, 62.5), (397, 16, 24.8), (10, 16, 0.625)])
def test_the_cache_travels_as_4nkd_bytes(classes, keys, megabytes):
    """ImageNet, SUN397 and EuroSAT with RN50's 1024 features."""
    cache = Cache(np.broadcast_to(np.float32(0), (classes, keys, 1024)))
    assert tree_bytes(cache) / 2**20 == pytest.approx(megabytes, abs=0.05)


def step_of(rows: int, classes: int, keys: int, width: int, linear: bool, known: bool) -> float:
    """FLOPs of one step of SGD on a batch of so many rows; text logits are `known` or computed in the step."""
    view = Linear(lambda rows: rows.features, loss_of_scores(cachefl)) if linear else None
    local = LocalTraining(training_loss(cachefl), CLIENT_OPTIMIZERS["sgd"], 2, rows, rows, view)
    frozen = Frozen(jnp.zeros((classes, width)), *jnp.ones(3))
    logits = jnp.zeros((8 * rows, classes)) if known else None
    data = Rows(jnp.zeros(8 * rows, jnp.int32), jnp.zeros((8 * rows, width)), logits)
    clients = Clients(jnp.asarray([0, 8 * rows]), jnp.arange(8 * rows))
    hyper = Hyper(*(jnp.ones(()) for _ in Hyper._fields))
    problem = Problem(clients, data, frozen, hyper, ServerHyper(), jax.random.key(0))
    cache = Cache(jnp.zeros((classes, keys, width)))
    flops = step_flops(local, cache, problem)
    # SCAFFOLD corrects the gradient by a difference.
    assert step_flops(local._replace(work=scaffold), cache, problem) == flops + 2 * cache.keys.size
    # 3 and 7 batches of two epochs: 10 steps a client in the mean.
    assert round_flops(local, cache, problem, np.asarray([2 * rows + 1, 7 * rows])) == 10 * flops
    return flops


@pytest.mark.parametrize("linear", [True, False])
@pytest.mark.parametrize("sizes", [(64, 10, 16, 512), (32, 100, 2, 1024), (128, 37, 4, 512)])
def test_a_steps_flops_are_those_of_its_products_within_a_tenth(sizes, linear):
    """Affinities 2 N K D a row, the keys' gradient as many, and text logits 2 N D and a scaling D where they are not
    known; exponentials, softmax and the optimizer's step are the rest."""
    rows, classes, keys, width = sizes
    known, computed = (step_of(*sizes, linear, known) for known in (True, False))
    assert known == pytest.approx(rows * 4 * classes * keys * width, rel=0.1)
    assert computed - known == pytest.approx(rows * (2 * classes + 1) * width, rel=0.01)


def test_a_loop_counts_as_often_as_it_runs():
    """Blocks of rows one after another, each computed again for its gradient, against the same without a loop."""
    weights, rows = jnp.ones((64, 64)), jnp.ones((6, 5, 32, 64))

    @jax.checkpoint
    def block(rows, weights):
        return jnp.tanh(rows @ weights).sum()

    def looped(weights):
        inner = lambda rows: jax.lax.map(lambda each: block(each, weights), rows).sum()  # noqa: E731
        return jax.lax.map(inner, rows).sum()

    def plain(weights):
        return sum(block(each, weights) for part in rows for each in part)

    expected = jax.jit(jax.value_and_grad(plain)).lower(weights).cost_analysis()["flops"]
    assert expected == pytest.approx(30 * 3 * (2 * 32 * 64 * 64), rel=0.05), "forward twice, and once for the gradient"
    assert flops_of(jax.value_and_grad(looped), weights) == pytest.approx(expected, rel=0.02)


def test_factors_and_triangular_solves_count():
    """XLA counts none of LAPACK's: D^3 / 3 for a symmetric matrix's factor, 2/3 D^3 for another's, and D^2 a column for
    each of the two triangular solves behind it."""
    matrix, columns = jax.ShapeDtypeStruct((96, 96), jnp.float32), jax.ShapeDtypeStruct((96, 7), jnp.float32)
    both = 2 * 96**2 * 7
    for kind, factor in (("pos", 96**3 / 3), ("gen", 2 * 96**3 / 3)):
        solve = lambda matrix, columns, kind=kind: jax.scipy.linalg.solve(matrix, columns, assume_a=kind)  # noqa: E731
        assert flops_of(solve, matrix, columns) == pytest.approx(factor + both, rel=0.2)
    stacked = jax.ShapeDtypeStruct((5, 96, 96), jnp.float32)
    factors = lambda stacked: jax.lax.map(jnp.linalg.cholesky, stacked)  # noqa: E731
    assert flops_of(factors, stacked) == pytest.approx(5 * 96**3 / 3, rel=0.2)
    assert flops_of(jnp.linalg.cholesky, stacked) == pytest.approx(5 * 96**3 / 3, rel=0.2)
