"""The one arithmetic of all that is compared: rounds, baselines and accuracies, on every backend.

An accelerator rounds the operands of a float32 product to 10 bits (TF32) or 7 (bfloat16) unless it is told otherwise:
two programs of one table would differ by more than what they are compared for.
"""

from typing import Any

import jax
import jax.numpy as jnp

MATMUL = "highest"  # float32 operands, as they are


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
    return {"matmul": MATMUL, "dtype": "float32"}
