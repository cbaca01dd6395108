"""The bytes of an update, as they would go over the wire: every number in its bits, each array from a new byte on."""

import zlib

import jax
import numpy as np

from cachefl_jax.compression.encoding import Encoding, Shape, Wire, Written, wire_shapes

WORDS = {2: np.uint16, 4: np.uint32}  # unsigned integers by their bytes


def pack(encoding: Encoding, wire: Wire, shape: Shape) -> bytes:
    """The bytes of a leaf of this shape. Rows that do not travel are left out."""
    wire, rows = jax.device_get(wire), rows_sent(encoding, wire, shape)
    found = [bits_of(array, bits) for array, bits in zip(wire.beside, encoding.choice.bits(shape), strict=True)]
    for part in wire.parts:
        found += [bits_of(array, 32) for array in part.whole]
        found += [bits_of(array[rows], bits) for array, bits in zip(part.rows, encoding.numbers.bits, strict=True)]
    return b"".join(found)


def unpack(encoding: Encoding, packed: bytes, shape: Shape) -> Wire:
    """What `pack` was given; rows that did not travel are zeros."""
    shapes, source = wire_shapes(encoding, shape), Bytes(packed)
    beside = [source.take(array, bits) for array, bits in zip(shapes.beside, encoding.choice.bits(shape), strict=True)]
    rows, parts = rows_sent(encoding, Wire(tuple(beside), ()), shape), []
    for part in shapes.parts:
        whole, own = [source.take(array, 32) for array in part.whole], []
        for array, bits in zip(part.rows, encoding.numbers.bits, strict=True):
            found = np.zeros(array.shape, array.dtype)
            sent = jax.ShapeDtypeStruct(found[rows].shape, array.dtype)
            found[rows] = source.take(sent, bits)
            own.append(found)
        parts.append(Written(tuple(own), tuple(whole)))
    return Wire(tuple(beside), tuple(parts))


def rows_sent(encoding: Encoding, wire: Wire, shape: Shape):
    """An index of the rows that travel."""
    return slice(None) if encoding.choice.sent is None else np.asarray(encoding.choice.sent(wire.beside, shape))


def bits_of(array: np.ndarray, bits: int) -> bytes:
    """An array's numbers in so many bits each, the lowest first; a float's as they are."""
    words = np.ascontiguousarray(array).reshape(-1)
    if array.dtype != np.uint32:
        words = words.view(WORDS[array.dtype.itemsize])
    each = (words[:, None] >> np.arange(bits, dtype=words.dtype)) & 1
    return np.packbits(each.astype(np.uint8)).tobytes()


class Bytes:
    """Reads arrays off packed bytes, one after another."""

    def __init__(self, packed: bytes):
        self.packed, self.place = np.frombuffer(packed, np.uint8), 0

    def take(self, array: jax.ShapeDtypeStruct, bits: int) -> np.ndarray:
        """The next array, of this shape and type, whose numbers take so many bits."""
        numbers = int(np.prod(array.shape))
        after = self.place + -(-numbers * bits // 8)
        each = np.unpackbits(self.packed[self.place : after], count=numbers * bits).reshape(numbers, bits)
        self.place, word = after, WORDS[np.dtype(array.dtype).itemsize]
        words = (each.astype(word) << np.arange(bits, dtype=word)).sum(axis=1, dtype=word)
        return words.view(array.dtype).reshape(array.shape)


def deflated(packed: bytes) -> int:
    """Bytes of it after an entropy coder, DEFLATE at its hardest."""
    return len(zlib.compress(packed, 9))
