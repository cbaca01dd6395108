"""A client in a round of a secure sum: four messages, in this order.

Each pair of neighbours agrees on a mask that one adds and the other subtracts. A mask of the client's own comes on top:
if an update that was thought lost arrives after the pairwise masks have been recovered, it stays hidden.
"""

import os
from collections.abc import Collection, Mapping

import numpy as np

from cachefl_jax.privacy.secure.ciphers import agree, mask, new_key, seal, unseal
from cachefl_jax.privacy.secure.graph import Settings, shares_needed
from cachefl_jax.privacy.secure.messages import KEY, pack
from cachefl_jax.privacy.secure.shamir import SHARE, split

MASK, SEAL = b"pairwise mask", b"sealed shares"


class SecureClient:
    """One of a round's clients.

    Args:
        number: its own.
        settings: of the sum.
    """

    def __init__(self, number: int, settings: Settings):
        self.number, self.settings = number, settings
        self.mask_key, self.seal_key = new_key(), new_key()
        self.own_seed = os.urandom(32)
        self.keys: dict[int, bytes] = {}  # of each neighbour: its public keys
        self.held: dict[int, tuple[bytes, bytes]] = {}  # of each neighbour: shares of its own seed and of its mask key

    def advertise(self) -> bytes:
        """Its public keys, for masks and for sealed shares."""
        return b"".join(key.public_key().public_bytes_raw() for key in (self.mask_key, self.seal_key))

    def share(self, keys: Mapping[int, bytes]) -> dict[int, bytes]:
        """For each neighbour, whose public keys these are: a share of both secrets that it alone can read."""
        self.keys = dict(sorted(keys.items()))
        needed, holders = shares_needed(len(keys), self.settings.threshold), len(keys)
        seeds = split(self.own_seed, needed, holders)
        secrets = split(self.mask_key.private_bytes_raw(), needed, holders)
        pairs = zip(self.keys, seeds, secrets, strict=True)
        return {other: seal(self.seal(self.number, other), seed + secret) for other, seed, secret in pairs}

    def seal(self, source: int, target: int) -> bytes:
        """The key of what `source` sends to `target`, one of them this client."""
        other = target if source == self.number else source
        return agree(self.seal_key, self.keys[other][KEY:], SEAL + f" {source} {target}".encode())

    def masked(self, sealed: Mapping[int, bytes], words: np.ndarray) -> bytes:
        """Its update's words [n] under all masks, packed; `sealed` are the shares that its neighbours sent to it."""
        for source, message in sealed.items():
            text = unseal(self.seal(source, self.number), message)
            self.held[source] = text[:SHARE], text[SHARE:]
        total = words + mask(self.own_seed, len(words))
        for other, keys in self.keys.items():
            total += pairwise(agree(self.mask_key, keys[:KEY], MASK), self.number, other, len(words))
        return pack(total & np.uint32(self.settings.modulus_mask), self.settings.bits)

    def unmask(self, gone: Collection[int]) -> dict[int, bytes]:
        """Of each neighbour one share: of its mask key if its update never came, else of its own seed. Never both.

        Raises ValueError: so few neighbours are left that the server must not be answered."""
        if len(self.held) - len(set(self.held) & set(gone)) < shares_needed(len(self.held), self.settings.threshold):
            raise ValueError(f"client {self.number} has too few neighbours left")
        return {other: shares[other in gone] for other, shares in self.held.items()}


def pairwise(seed: bytes, own: int, other: int, count: int) -> np.ndarray:
    """What the client `own` adds for its neighbour `other`, uint32 [count] modulo 2^32; the two add up to 0."""
    words = mask(seed, count)
    return words if own < other else np.negative(words)
