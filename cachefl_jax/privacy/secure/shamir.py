"""Shamir's secret sharing (1979) of 32 bytes over the integers modulo a prime just above 2^256.

A kept library has it for 16 bytes over GF(2^128) in plain Python (PyCryptodome, which Flower takes); this takes a
hundredth of its time.
"""

import secrets

PRIME = 2**256 + 297  # the smallest prime above 2^256
SECRET, SHARE = 32, 33  # bytes


def split(secret: bytes, needed: int, holders: int) -> list[bytes]:
    """A share for each of `holders`, any `needed` of which give the secret, and fewer tell nothing of it.

    Raises ValueError: the secret has not 32 bytes, or there are fewer holders than are needed."""
    if len(secret) != SECRET or not 1 <= needed <= holders:
        raise ValueError(f"{len(secret)} bytes, {needed} of {holders} holders; 32 bytes, 1 to all of them are allowed")
    coefficients = [int.from_bytes(secret, "big"), *(secrets.randbelow(PRIME) for _ in range(needed - 1))]
    shares = []
    for place in range(1, holders + 1):
        value = 0
        for coefficient in reversed(coefficients):
            value = (value * place + coefficient) % PRIME
        shares.append(value.to_bytes(SHARE, "big"))
    return shares


def combine(shares: dict[int, bytes], needed: int) -> bytes:
    """The secret, out of shares by their holder's place from 0 on.

    Raises ValueError: there are too few, or they are not of one secret."""
    if len(shares) < needed:
        raise ValueError(f"{len(shares)} shares of {needed} that are needed")
    points = [(place + 1, int.from_bytes(share, "big")) for place, share in list(shares.items())[:needed]]
    total = 0
    for own, value in points:
        above = below = 1
        for other, _ in points:
            if other != own:
                above, below = above * other % PRIME, below * (other - own) % PRIME
        total += value * above * pow(below, -1, PRIME)
    if (total := total % PRIME) >= 2**256:
        raise ValueError("shares of different secrets")
    return total.to_bytes(SECRET, "big")
