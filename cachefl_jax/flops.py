"""Floating-point operations of a program, as XLA counts them before it is compiled."""

import contextlib
from collections.abc import Callable

import jax


def flops(function: Callable, *shapes) -> float:
    """Of a function of arguments of these shapes.

    A program that is lowered for an accelerator is not counted before it is compiled, so it is lowered for the CPU,
    which is there beside one unless the environment leaves it out; then the compiled program is counted."""
    with beside_accelerators():
        lowered = jax.jit(function).lower(*shapes)
    counted = lowered.cost_analysis() or lowered.compile().cost_analysis()
    return float(counted.get("flops", 0.0))


def beside_accelerators() -> contextlib.AbstractContextManager:
    """The context in which programs are lowered for this process's first CPU device, where JAX has one."""
    try:
        return jax.default_device(jax.local_devices(backend="cpu")[0])
    except RuntimeError:  # JAX_PLATFORMS names others alone
        return contextlib.nullcontext()
