"""What travels in fewer bytes: which numbers of an update are sent, how each is written, and the bits of it.

The engine trains on what the receiver reads (`encoding.compressed`); `packing` writes the very bytes, as many as are
counted.
"""

from cachefl_jax.compression.choice import low_rank, moved_keys, own_classes, random_k, top_k
from cachefl_jax.compression.codebook import product_quantize
from cachefl_jax.compression.encoding import Choice, Encoding, Numbers, compressed, encoding_of, read_leaf, write_leaf
from cachefl_jax.compression.numbers import bfloat16, float16, quantize
from cachefl_jax.compression.packing import deflated, pack, unpack
from cachefl_jax.compression.rotation import rotated_quantize

__all__ = [
    "Choice",
    "Encoding",
    "Numbers",
    "bfloat16",
    "compressed",
    "deflated",
    "encoding_of",
    "float16",
    "low_rank",
    "moved_keys",
    "own_classes",
    "pack",
    "product_quantize",
    "quantize",
    "random_k",
    "read_leaf",
    "rotated_quantize",
    "top_k",
    "unpack",
    "write_leaf",
]
