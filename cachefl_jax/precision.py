"""The one arithmetic of all that is compared: rounds, baselines and accuracies, on every backend.

An accelerator rounds the operands of a float32 product to 10 bits (TF32) or 7 (bfloat16) unless it is told otherwise:
two programs of one table would differ by more than what they are compared for. `engine.precision` tells it otherwise,
for a whole run and all that it compares; encoders keep float32, for features outlive a run, and so do the sums and
solutions of closed forms.
"""

from typing import Any

import jax
import jax.numpy as jnp

from cachefl_jax.config.engine import PRECISIONS

MATMUL = "highest"  # float32 operands, as they are
# The names of `engine.precision`, in JAX's words. A CPU has no TF32 and computes it in float32.
MATMULS = dict(zip(PRECISIONS, (MATMUL, "BF16_BF16_F32_X3", "tensorfloat32"), strict=True))
chosen = {"precision": "float32"}  # of this process's run


def choose_precision(name: str) -> None:
    """From now on `run_precision` is this one of `MATMULS`.

    JAX's own default goes with it, though nothing relies on it: it is part of what compiled programs are found by, so
    that none of another precision is taken."""
    chosen["precision"] = name
    if name != "float32":
        jax.config.update("jax_default_matmul_precision", MATMULS[name])


def forget_precision() -> None:
    """Takes `choose_precision` back."""
    if chosen["precision"] != "float32":
        jax.config.update("jax_default_matmul_precision", None)
    chosen["precision"] = "float32"


def run_precision():
    """The context in which a run's rounds, baselines, text logits and accuracies are traced."""
    return jax.default_matmul_precision(MATMULS[chosen["precision"]])


def full_precision():
    """The context in which a program is traced: all matrix products in it keep their operands' float32."""
    return jax.default_matmul_precision(MATMUL)


def double_precision():
    """The context in which a closed form's sums and solution are traced: float64 is what it says. Arrays that come from
    outside keep their type."""
    return jax.enable_x64(True)


def in_single(tree: Any) -> Any:
    """A pytree's arrays as float32."""
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), tree)


def arithmetic() -> dict[str, str]:
    """summary.json's account of it."""
    return {"matmul": MATMULS[chosen["precision"]], "dtype": "float32"}
