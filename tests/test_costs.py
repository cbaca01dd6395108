"""What travels and what a step costs, against what the arrays hold and what XLA counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cachefl_jax.costs import cache_training_flops, tree_bytes
from cachefl_jax.methods import Cache, Examples, Frozen, cachefl, cross_entropy


def test_tree_bytes_counts_every_leaf_as_it_is():
    tree = {"keys": jnp.zeros((10, 16, 8)), "half": [np.zeros(3, np.float16)], "round": jnp.zeros((), jnp.int32)}
    assert tree_bytes(tree) == 4 * 10 * 16 * 8 + 2 * 3 + 4
    assert tree_bytes(()) == 0


@pytest.mark.parametrize(("classes", "keys", "megabytes"), [(1000, 16, 62.5), (397, 16, 24.8), (10, 16, 0.625)])
def test_the_cache_travels_as_4nkd_bytes(classes, keys, megabytes):
    """ImageNet, SUN397 and EuroSAT with RN50's 1024 features."""
    cache = jax.eval_shape(lambda: cachefl.init(jnp.zeros((classes, keys, 1024))))
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(cache))
    assert size / 2**20 == pytest.approx(megabytes, abs=0.05)


def xla_flops(rows: int, classes: int, keys: int, width: int) -> float:
    """What XLA counts in the loss and its gradient on one batch."""
    loss = cross_entropy(cachefl)

    def mean_loss(params, frozen, batch):
        return loss(params, frozen, batch).mean()

    frozen = Frozen(jnp.zeros((classes, width)), *jnp.ones(3))
    batch = Examples(jnp.zeros((rows, width)), jnp.zeros(rows, jnp.int32))
    step = jax.jit(jax.value_and_grad(mean_loss)).lower(Cache(jnp.zeros((classes, keys, width))), frozen, batch)
    return step.compile().cost_analysis()["flops"]


@pytest.mark.parametrize("sizes", [(64, 10, 16, 512), (32, 100, 2, 1024), (128, 37, 4, 512)])
def test_training_flops_are_xlas_within_a_twentieth(sizes):
    counted, ours = xla_flops(*sizes), cache_training_flops(*sizes)
    print(f"XLA {counted:.4g}, ours {ours:.4g}, ratio {counted / ours:.4f}")
    assert counted == pytest.approx(ours, rel=0.05)
