"""What the messages of a round are made of, and how many bytes each has.

Client numbers are uint32. To and from one client with k neighbours, and n numbers of b bits:

    message   up                                        down
    keys      two public keys                           of each neighbour: its number, two public keys
    shares    to each neighbour: number, sealed shares  of each neighbour: number, sealed shares; the client's weight
    update    n b bits
    unmask    of each neighbour: one share              of each neighbour: one byte, whether its update came
"""

import numpy as np

from cachefl_jax.privacy.secure.graph import Settings, degree
from cachefl_jax.privacy.secure.shamir import SHARE

NUMBER, KEY, TAG, WEIGHT, FLAG = 4, 32, 16, 4, 1  # bytes
KEYS, SEALED = 2 * KEY, 2 * SHARE + TAG
MESSAGES = ("keys", "shares", "update", "unmask")


def sizes(neighbours: int) -> dict[str, tuple[int, int]]:
    """Bytes (up, down) of each message, without the update itself."""
    return {
        "keys": (KEYS, neighbours * (NUMBER + KEYS)),
        "shares": (neighbours * (NUMBER + SEALED), neighbours * (NUMBER + SEALED) + WEIGHT),
        "update": (0, 0),
        "unmask": (neighbours * SHARE, neighbours * FLAG),
    }


def overhead(clients: int, settings: Settings) -> tuple[int, int]:
    """Bytes (up, down) of a client's round besides the update and the params, where `clients` take part and stay."""
    if clients < 2:
        return 0, 0
    ways = zip(*sizes(degree(clients, settings.neighbours)).values(), strict=True)
    up, down = (sum(way) for way in ways)
    return up, down


def pack(words: np.ndarray, bits: int) -> bytes:
    """Words [n] below 2^bits in n bits / 8 bytes, rounded up."""
    each = np.unpackbits(words.astype(">u4").view(np.uint8).reshape(-1, 4), axis=1)
    return np.packbits(each[:, 32 - bits :]).tobytes()


def unpack(packed: bytes, bits: int, count: int) -> np.ndarray:
    """uint32 [count] of what `pack` gives."""
    each = np.unpackbits(np.frombuffer(packed, np.uint8), count=count * bits).reshape(count, bits)
    whole = np.pad(each, ((0, 0), (32 - bits, 0)))
    return np.packbits(whole, axis=1).view(">u4").reshape(count).astype(np.uint32)
