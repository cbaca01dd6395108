"""What a round costs at a client, in floating-point operations."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Jaxpr, JaxprEqn, jaxpr_as_fun, jaxprs_in_params

from cachefl_jax.federation import Client, LocalTraining, LoopLayout, Problem, Rows, Start
from cachefl_jax.federation.primal.client import counted, train
from cachefl_jax.federation.problem import shapes_of
from cachefl_jax.flops import flops
from cachefl_jax.precision import double_precision, full_precision


def round_flops(local: LocalTraining, params, problem: Problem, rows: np.ndarray) -> float:
    """Floating-point operations of a round at a client, the mean over clients of so many rows [C].

    A step's, as XLA counts them in its program, times the steps; so the empty places of an epoch's last batch count.
    What is computed once a run (features, and text logits where they are stored) does not. A loop in a method's logits
    counts as often as it runs where its length is known, as that of `jax.lax.scan` and `jax.lax.map`; others once.
    """
    return float(np.mean(-(-np.asarray(rows) // local.batch_size))) * local.epochs * step_flops(local, params, problem)


def step_flops(local: LocalTraining, params, problem: Problem) -> float:
    """Of one optimizer step on a full batch; nothing is computed or put onto a device."""
    return counted_flops(local, *shapes_of((params, problem._replace(gram=None))))


def solve_flops(local: LocalTraining, params, problem: Problem) -> float:
    """Of what a client computes from its own statistics where it never aggregates; 0 for clients that train."""
    if local.work.alone is None:
        return 0.0
    return counted_solve(local, *shapes_of((params, problem._replace(gram=None))))


@functools.lru_cache(maxsize=64)
def counted_solve(local: LocalTraining, structure, shapes: tuple) -> float:
    """`solve_flops` from shapes alone."""
    params, problem = jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(*shape) for shape in shapes])
    zero = jnp.zeros((), jnp.int32)

    def start_of(params, problem) -> Start:
        return Start(params, local.work.shared(params), problem, zero, problem.key)

    def sent(params, problem):
        return counted(local, start_of(params, problem), Rows(zero, zero))

    def solve(update, params, problem):
        return local.work.alone(update, start_of(params, problem))

    with full_precision(), double_precision():
        return flops_of(solve, jax.eval_shape(sent, params, problem), params, problem)


@functools.lru_cache(maxsize=64)  # points of a sweep with the same shapes are lowered once
def counted_flops(local: LocalTraining, structure, shapes: tuple) -> float:
    """`step_flops` from shapes alone."""
    params, problem = jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(*shape) for shape in shapes])
    local = local._replace(epochs=1, shuffle=False, capacity=local.batch_size)  # a step, not the drawing of its rows
    zero = jnp.zeros((), jnp.int32)
    beside = jax.eval_shape(lambda params: (local.work.shared(params), local.work.state(params)), params)

    def step(params, beside, problem):
        rows, (shared, state) = Rows(zero, jnp.asarray(local.batch_size, jnp.int32)), beside
        start = Start(params, shared, problem, zero, problem.key)
        if local.work.statistics is not None:
            return counted(local, start, rows)
        return train(local, start, Client(zero, rows, state), LoopLayout(unrolled=1))[1:]

    with full_precision():
        return flops_of(step, params, beside, problem)


def flops_of(function: Callable, *shapes) -> float:
    """Operations of a function of arguments of these shapes, the passes of its loops counted."""
    program = jax.make_jaxpr(function)(*shapes)
    return flops(function, *shapes) + uncounted(program.jaxpr)


def uncounted(program: Jaxpr) -> float:
    """Operations that XLA leaves out: those of a library's factors and triangular solves, and of the loops of known
    length in a program, but for the one pass of each that XLA counts."""
    total = 0.0
    for step in program.eqns:
        own, passes = step.params, 1
        if step.primitive.name == "custom_linear_solve":
            own = {"solve": own["jaxprs"].solve}  # beside it stand what it inverts and the transposes of both
        inner = sum(map(uncounted, jaxprs_in_params(own)))
        if step.primitive.name == "scan":
            body, passes = own["jaxpr"], own["length"]
            total += (passes - 1) * flops(jaxpr_as_fun(body), *body.in_avals)
        total += passes * inner + library_flops(step)
    return total


def library_flops(step: JaxprEqn) -> float:
    """Of one call of LAPACK or its like, the leading term; those whose work depends on their numbers are left out."""
    shapes = [argument.aval.shape for argument in step.invars]
    if step.primitive.name == "cholesky":
        return math.prod(shapes[0]) * shapes[0][-1] / 3
    if step.primitive.name == "lu":
        few, many = sorted(shapes[0][-2:])
        return math.prod(shapes[0]) * (few - few**2 / many / 3)
    if step.primitive.name == "triangular_solve":
        return math.prod(shapes[1]) * shapes[0][-1]
    return 0.0
