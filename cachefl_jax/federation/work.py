"""What a client does in a round, and what it starts from: the parts of `local` that an algorithm may change.

FedAvg's client trains and sends the change of its params; another algorithm says only where it differs.
"""

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from cachefl_jax.precision import double_precision, in_single

Params = Any
AGGREGATION = np.uint32(2**32 - 4)  # folded into a round's key; no client has this number


def nothing(params: Params) -> tuple[()]:
    """What a server or a client keeps where it keeps nothing."""
    del params
    return ()


class Finished(NamedTuple):
    """A client's round, after its training."""

    steps: jax.Array  # [] int32 steps that it took
    hyper: Any  # its optimizer's numbers
    shared: Any  # what the server sent beside the params
    state: Any  # what the client kept from its last round


class ClientWork(NamedTuple):
    """Where an algorithm's clients differ from FedAvg's, which differ in nothing. All functions are traced.

    An update may have another shape than the params: `apply` turns the aggregate of updates into a change of the
    server's params.

    Attributes:
        shared: params -> what the server keeps beside them and sends to every client.
        state: params -> what every client keeps from round to round, at round 0.
        correct: (gradient, shared, state) -> the gradient of a client's step, after the proximal term and clipping.
        scale: (local, steps, hyper) -> (factor, extra) where an update is (factor x change, extra): numbers that follow
            from the steps alone, so that training on coefficients is exact. Transforms see factor x change; of extra,
            a weighted sum leaves the weighted mean.
        update: (change of the params, Finished) -> (update, state), where it is anything else.
        statistics: (start, rows [B, ...], valid [B]) -> sums over the valid rows, for clients that do not train but
            count: a closed form. A client adds up those of its batches in float64. Its loss is 0. The server's side,
            from the sum over the clients to its step, is traced with float64 there, too.
        packed: a client's sums -> what it sends of them, with fewer bits.
        alone: (a client's statistics, start) -> params, where such a client never aggregates.
        begin: (server's params, state) -> the params that a client's training starts from, where they are not the
            server's.
        keep: (local, start, client, trained params, layout of its loop) -> its state after training, before `update`;
            None: as it was.
        sent: params -> those of them that travel, and of whose change an update is made: a pytree of the same
            structure with None for other leaves. None: all.
        model: (server's params, state) -> a client's own model, by which it is scored; None: the server's.
        apply: (aggregate, start, share) -> (change of the server's params, shared); share of the cohort in all clients,
            by weight (`aggregation.share_of_all`).
    """

    shared: Callable[[Params], Any] = nothing
    state: Callable[[Params], Any] = nothing
    correct: Callable[[Params, Any, Any], Params] | None = None
    scale: Callable | None = None
    update: Callable[[Params, Finished], tuple[Any, Any]] | None = None
    statistics: Callable | None = None
    packed: Callable[[Any], Any] = in_single
    alone: Callable | None = None
    begin: Callable[[Params, Any], Params] | None = None
    keep: Callable | None = None
    sent: Callable[[Params], Any] | None = None
    model: Callable[[Params, Any], Params] | None = None
    apply: Callable | None = None

    def arithmetic(self):
        """The context in which the server's side of a round is traced."""
        return contextlib.nullcontext() if self.statistics is None else double_precision()

    @property
    def sends_change(self) -> bool:
        """Whether an update is the change of the params itself."""
        return self.scale is None and self.update is None and self.statistics is None

    def travelling(self, params: Params) -> Any:
        """`sent` of the params."""
        return params if self.sent is None else self.sent(params)


fedavg = ClientWork()


def by_itself(work: ClientWork) -> ClientWork:
    """What clients that never aggregate do: other algorithms than FedAvg need a server, but for closed forms."""
    return fedavg if work.alone is None else work


class Rows(NamedTuple):
    """One client's slice of the index rows that all clients share."""

    start: jax.Array  # [] into `indices`
    count: jax.Array  # [] rows, at most LocalTraining.capacity
    most: jax.Array | int | None = None  # [] at least `count`; one number for clients that `jax.vmap` trains together


class Start(NamedTuple):
    """What all clients of a round start from."""

    params: Params
    shared: Any  # beside the params
    problem: Any  # the federation's arrays, `problem.Problem`
    round: jax.Array  # [] int32
    key: jax.Array  # the round's
    server: Any = ()  # what the server's mechanism keeps, for the transforms
    hostile: jax.Array | None = None  # [C] bool, where any client is (`hostile.hostile_clients`)
    versions: Any = None  # [H, ...] of the params, where clients start from older ones (`problem.PartStates`)


class Client(NamedTuple):
    """One of them."""

    number: jax.Array  # [] int32, 0..C-1
    rows: Rows
    state: Any  # what it kept
    weight: jax.Array | float = 1.0  # in the aggregate
    params: Any = None  # that it trains; None: the server's
    steps: jax.Array | None = None  # [] int32, the most that it does; None: as many as its rows ask for
    age: jax.Array | None = None  # [] int32, how many rounds ago the params were sent that it starts from


def client_key(start: Start, number: jax.Array) -> jax.Array:
    """A client's key in a round: from the run's key, the round and its number alone."""
    return jax.random.fold_in(start.key, number)


def server_key(key: jax.Array) -> jax.Array:
    """The aggregation's key in the round whose key this is."""
    return jax.random.fold_in(key, AGGREGATION)
