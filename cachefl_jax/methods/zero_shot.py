"""Zero-shot CLIP: nothing is trained, nothing travels. Radford et al., arXiv 2103.00020, section 3.1."""

import jax

from cachefl_jax.methods.method import Frozen, Method


def init(synthetic: jax.Array) -> tuple[()]:
    """No parameters at all."""
    del synthetic
    return ()


def logits(params: tuple[()], frozen: Frozen, features: jax.Array) -> jax.Array:
    """z[b,n] = s f[b] . text[n], [B, N]."""
    del params
    return frozen.logit_scale * features @ frozen.text.T


zero_shot = Method(init, logits)
