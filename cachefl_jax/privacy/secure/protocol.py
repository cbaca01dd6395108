"""A round of a secure sum as it runs between machines: every message, every mask, and what is recovered of clients
that leave.

Clients may leave before their update (`gone`), or between it and the last message (`silent`). Server and clients are
honest but curious, and the server tells every client the same: consistency checks against one that does not are left
out, and so are signatures.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from cachefl_jax.privacy.secure.ciphers import agree, mask, private_key
from cachefl_jax.privacy.secure.client import MASK, SecureClient, pairwise
from cachefl_jax.privacy.secure.graph import Settings, neighbours_of, shares_needed
from cachefl_jax.privacy.secure.messages import FLAG, KEY, NUMBER, WEIGHT, unpack
from cachefl_jax.privacy.secure.shamir import combine


class Unrecoverable(ValueError):
    """Too few clients are left: the sum stays hidden, and the round changes nothing."""


class Outcome(NamedTuple):
    """What a round came to."""

    total: np.ndarray  # uint32 [n], the sum modulo 2^bits of the updates that came
    received: dict[int, np.ndarray]  # of each client the words that the server saw
    sent: dict[str, list[tuple[int, int]]]  # by message: of each client (bytes up, bytes down)
    client_seconds: dict[str, list[float]]  # by message, of each client
    server_seconds: float  # to recover masks and add up


class Meter:
    """Counts what clients send and get, and the time that they take."""

    def __init__(self):
        self.sent, self.seconds = defaultdict(list), defaultdict(list)

    def timed(self, message: str, work: Callable):
        """What the client's work gives."""
        began = time.perf_counter()
        done = work()
        self.seconds[message].append(time.perf_counter() - began)
        return done

    def count(self, message: str, up: int, down: int) -> None:
        """Of one client."""
        self.sent[message].append((up, down))


def secure_round(
    updates: Mapping[int, np.ndarray],
    settings: Settings,
    gone: frozenset = frozenset(),
    silent: frozenset = frozenset(),
) -> Outcome:
    """A whole round.

    Args:
        updates: of each client, in the order of the ring, its words [n] below 2^bits, uint32.
        settings: of the sum.
        gone: clients that leave after their shares, before their update.
        silent: clients that leave after their update.

    Raises Unrecoverable: too few are left."""
    meter = Meter()
    beside = neighbours_of(list(updates), settings.neighbours)
    clients = {number: SecureClient(number, settings) for number in updates}

    keys = {number: meter.timed("keys", client.advertise) for number, client in clients.items()}
    for number, own in keys.items():
        meter.count("keys", len(own), sum(NUMBER + len(keys[other]) for other in beside[number]))

    shares = {}
    for number, client in clients.items():
        theirs = {other: keys[other] for other in beside[number]}
        shares[number] = meter.timed("shares", lambda client=client, theirs=theirs: client.share(theirs))
    inbox = {number: {other: shares[other][number] for other in beside[number]} for number in clients}
    for number in clients:
        up, down = (sum(NUMBER + len(text) for text in box[number].values()) for box in (shares, inbox))
        meter.count("shares", up, down + WEIGHT)

    masked = {}
    for number in (number for number in clients if number not in gone):
        client, words = clients[number], updates[number]
        packed = meter.timed("update", lambda client=client, words=words, box=inbox[number]: client.masked(box, words))
        meter.count("update", len(packed), 0)
        masked[number] = unpack(packed, settings.bits, len(words))

    answers: dict[int, dict[int, bytes]] = defaultdict(dict)  # of each client: its neighbours' shares, by their number
    for number in (number for number in masked if number not in silent):
        try:
            own = meter.timed("unmask", lambda client=clients[number]: client.unmask(gone))
        except ValueError as error:
            raise Unrecoverable(str(error)) from error
        meter.count("unmask", sum(map(len, own.values())), FLAG * len(own))
        for other, share in own.items():
            answers[other][number] = share

    began = time.perf_counter()
    total = unmasked(masked, answers, {number: (keys[number], beside[number]) for number in clients}, settings)
    return Outcome(total, masked, dict(meter.sent), dict(meter.seconds), time.perf_counter() - began)


def unmasked(
    masked: Mapping[int, np.ndarray],
    answers: Mapping[int, Mapping[int, bytes]],
    known: Mapping[int, tuple[bytes, list[int]]],
    settings: Settings,
) -> np.ndarray:
    """The server's part: the sum of the updates, uint32 [n].

    Args:
        masked: of each client whose update came, what the server saw of it.
        answers: of each client, shares of one of its secrets by the neighbour that answered.
        known: of each client, its public keys and its neighbours in ascending order.
        settings: of the sum.

    Raises Unrecoverable: a secret has too few shares."""
    if not masked:
        raise Unrecoverable("no update came")
    count = len(next(iter(masked.values())))
    total = np.zeros(count, np.uint32)
    for words in masked.values():
        total += words
    for number, (_, neighbours) in known.items():
        left = [other for other in neighbours if other in masked]
        if number not in masked and not left:
            continue  # no mask of its own is in the sum
        shares = {neighbours.index(other): share for other, share in answers.get(number, {}).items()}
        try:
            secret = combine(shares, shares_needed(len(neighbours), settings.threshold))
        except ValueError as error:
            raise Unrecoverable(f"client {number}: {error}") from error
        if number in masked:
            total -= mask(secret, count)
            continue
        key = private_key(secret)
        for other in left:
            total -= pairwise(agree(key, known[other][0][:KEY], MASK), other, number, count)
    return total & np.uint32(settings.modulus_mask)
