"""Zero-shot CLIP: nothing is trained, nothing travels. Radford et al., arXiv 2103.00020, section 3.1."""

import jax
import jax.numpy as jnp

from cachefl_jax.methods.method import Frozen, Method


def init(synthetic: jax.Array) -> tuple[()]:
    """No parameters at all."""
    del synthetic
    return ()


def scores(params: tuple[()], features: jax.Array) -> tuple[()]:
    """Nothing to say of a feature but what the text says."""
    del features
    return params


def votes(scores: tuple[()], frozen: Frozen) -> jax.Array:
    """Nothing to add, for any class: [1, N] zeros."""
    del scores
    return jnp.zeros((1, frozen.text.shape[0]))


zero_shot = Method(init, scores, votes)
