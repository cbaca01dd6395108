"""What a round costs: bytes that travel, and floating-point operations at a client.

Axis letters: N classes, K keys a class, D features.
"""

import jax


def tree_bytes(tree) -> int:
    """Bytes of a pytree's leaves, as they are: what one transfer of it carries, without framing or compression."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def cache_training_flops(examples: float, classes: int, keys: int, width: int) -> float:
    """Multiplications and additions of training a cache once on `examples` rows.

    Three products a row: text logits 2 N D, affinities 2 N K D, and the keys' gradient 2 N K D (none is due for the
    features). Exponentials, softmax and the optimizer are of lower order in D and left out; so is the one encoding
    of a client's images by the frozen tower, which happens once a run and not in rounds.
    """
    return examples * (2 * classes * width + 4 * classes * keys * width)
