"""What a round costs: bytes that travel, and floating-point operations at a client."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cachefl_jax.federation import LocalTraining, Problem
from cachefl_jax.federation.local import loss_and_gradient, regularised
from cachefl_jax.precision import full_precision


def tree_bytes(tree) -> int:
    """Bytes of a pytree's leaves, as they are: what one transfer of it carries, without framing or compression."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def round_flops(local: LocalTraining, params, problem: Problem, rows: np.ndarray) -> float:
    """Floating-point operations of a round at a client, the mean over clients of so many rows [C].

    A step's, as XLA counts them in its program, times the steps; so the empty places of an epoch's last batch count.
    What is computed once a run (features, and text logits where they are kept) does not.
    """
    return float(np.mean(-(-np.asarray(rows) // local.batch_size))) * local.epochs * step_flops(local, params, problem)


def step_flops(local: LocalTraining, params, problem: Problem) -> float:
    """Of one optimizer step on a full batch; nothing is computed or put onto a device."""
    return counted_flops(local, *shapes_of((params, problem.frozen, problem.hyper, problem.data)))


def shapes_of(tree) -> tuple:
    """(structure, leaves' shapes), which are hashable."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, tuple((np.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)


@functools.lru_cache(maxsize=64)  # points of a sweep with the same shapes are lowered once
def counted_flops(local: LocalTraining, structure, shapes: tuple) -> float:
    """`step_flops` from shapes alone."""
    leaves = [jax.ShapeDtypeStruct(*shape) for shape in shapes]
    params, frozen, hyper, data = jax.tree.unflatten(structure, leaves)
    batch = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((local.batch_size, *leaf.shape[1:]), leaf.dtype), data)

    def step(params, frozen, hyper, batch):
        optimizer = local.optimizer(hyper)
        _, gradients = loss_and_gradient(local, params, frozen, batch, jnp.ones(local.batch_size, bool))
        gradients = regularised(local, hyper, gradients, params, params)
        updates, state = optimizer.update(gradients, optimizer.init(params), params)
        return optax.apply_updates(params, updates), state

    with full_precision():
        analysis = jax.jit(step).lower(params, frozen, hyper, batch).cost_analysis()
    return float(analysis["flops"])
