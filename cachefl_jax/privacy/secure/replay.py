"""A round of federation once more, with the protocol between its clients and its server."""

import statistics
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cachefl_jax.federation import Cohort, Federation, Problem, ServerState
from cachefl_jax.federation.run import cohort_of
from cachefl_jax.federation.seen import keeping, seeing
from cachefl_jax.federation.work import server_key
from cachefl_jax.privacy.secure.graph import Settings, ring
from cachefl_jax.privacy.secure.protocol import Unrecoverable, secure_round
from cachefl_jax.privacy.secure.sums import Encoded, left_of


class Uploads(NamedTuple):
    """What the clients of a round send, before any mask."""

    updates: Encoded  # [M, ...]
    total: Encoded  # their sum
    aggregate: jax.Array  # what the round makes of it
    received: object  # `aggregation.Received`


def collecting(federation: Federation) -> Federation:
    """The same round, after which the server still has `Uploads` as the state of its aggregation."""
    aggregation = federation.aggregation

    def add_up(updates: Encoded) -> Encoded:
        return jax.tree.map(lambda leaf: leaf.sum(axis=0, dtype=jnp.uint32), updates)

    return keeping(
        federation,
        lambda updates, aggregate, received: Uploads(updates, add_up(updates), aggregate, received),
        collect=lambda updates, received: aggregation.finish(add_up(updates), received),
    )


def uploads_of(federation: Federation, state: ServerState, problem: Problem) -> Uploads:
    """What the clients of the state's next round send, on the host."""
    cohort: Cohort = cohort_of(federation, problem, state.round)
    return seeing(collecting(federation))(state, cohort, problem)


def replay(federation: Federation, settings: Settings, state: ServerState, problem: Problem) -> dict:
    """Runs the protocol of the state's next round: real keys, masks and shares, and clients that leave.

    Returns:
        number of the round, clients, who left; whether the sum was recovered, whether it equals the plain sum of
        the integers, and whether the aggregate decoded from it is the round's, all to the bit; bytes of a client by
        message (up, down), median seconds of a client by message, and the server's seconds.
    """
    key = server_key(jax.random.fold_in(problem.key, state.round))
    number = int(state.round) + 1
    uploads = uploads_of(federation, state, problem)
    received, present = uploads.received, np.asarray(uploads.received.present)
    order = np.asarray(ring(key, received.clients, received.present))[: present.sum()]
    alive = np.asarray(left_of(settings, received)[0])
    clients = np.asarray(received.clients)
    flat = [np.asarray(leaf).reshape(len(present), -1) for leaf in jax.tree.leaves(uploads.updates.words)]
    words = np.concatenate(flat, axis=1)
    gone = frozenset(int(clients[place]) for place in order if not alive[place])
    told = {"round": number, "clients": len(order), "gone": sorted(gone), "numbers": words.shape[1]}
    try:
        done = secure_round({int(clients[place]): words[place] for place in order}, settings, gone)
    except Unrecoverable as error:
        unchanged = all(not np.asarray(leaf).any() for leaf in jax.tree.leaves(uploads.aggregate))
        return told | {"recovered": False, "why": str(error), "round_unchanged": unchanged}
    sums = words[alive & present].astype(np.uint64).sum(axis=0) & np.uint64(settings.modulus_mask)
    decoded = federation.aggregation.finish(with_words(uploads.total, done.total), received)
    same = [np.array_equal(*pair) for pair in zip(*map(jax.tree.leaves, (decoded, uploads.aggregate)), strict=True)]
    return told | {
        "recovered": True,
        "equals_plain_sum": bool(np.array_equal(done.total, sums)),
        "equals_round": all(same),
        "bytes": {message: [statistics.mean(way) for way in zip(*each, strict=True)]
                  for message, each in done.sent.items()},
        "client_seconds": {message: statistics.median(each) for message, each in done.client_seconds.items()},
        "server_seconds": done.server_seconds,
    }  # fmt: skip


def with_words(total: Encoded, words: np.ndarray) -> Encoded:
    """The sum with other integers, [n] of all leaves one after another."""
    leaves, structure = jax.tree.flatten(total.words)
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]
    parts = [jnp.asarray(part.reshape(leaf.shape)) for part, leaf in zip(np.split(words, ends), leaves, strict=True)]
    return total._replace(words=jax.tree.unflatten(structure, parts))
