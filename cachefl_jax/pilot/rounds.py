"""The server's side of the rounds: who is asked, and what becomes of the answers.

Updates are added up in the simulator's order, the largest site first, whenever they arrive: the sum does not depend on
who was fast. Axis letters: C sites, M sites of a cohort, N classes, D features.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.federation import (
    Clients,
    Cohort,
    Federation,
    Problem,
    RoundMetrics,
    ServerState,
    everybody,
    init_server,
)
from cachefl_jax.federation.folded import add_one, nothing_yet
from cachefl_jax.federation.participation import by_size
from cachefl_jax.federation.primal.client import Sent, update_shape
from cachefl_jax.federation.round import close_round, open_round
from cachefl_jax.federation.run import cohort_of
from cachefl_jax.methods import Rows, Server, find_method
from cachefl_jax.pilot.limits import check_state
from cachefl_jax.precision import run_precision
from cachefl_jax.simulation.build import problem, server_rows
from cachefl_jax.simulation.parts import federation_of
from cachefl_jax.simulation.prepare import Inputs


class Answer(NamedTuple):
    """What a site sent in a round."""

    update: list[np.ndarray]  # its leaves
    loss: float


class ServerWork:
    """The server's side of the rounds of C sites.

    Args:
        config: the server's.
        inputs: of `prepare`; its training rows are not read.
        rows: of each site, [C].

    Raises UsageError: as `limits.check_state`."""

    def __init__(self, config: ConfigDict, inputs: Inputs, rows: list[int]):
        method, server = find_method(config.method), inputs.server
        self.federation = federation_of(config, method, max(rows))
        offsets = np.concatenate([[0], np.cumsum(rows)]).astype(np.int32)
        clients = Clients(offsets, np.arange(offsets[-1], dtype=np.int32))
        held, self.rows = (clients, placeholder(server)), np.asarray(rows)
        self.frozen = method.freeze(server, config)
        self.problem = problem(config, method, self.frozen, held)
        if self.federation.aggregation.root:
            self.problem = self.problem._replace(root=server_rows(config, method, inputs))
        self.params = method.init(server, config)
        self.state = init_server(self.federation, self.params, self.problem)
        check_state(self.federation, self.state)
        self.shapes = jax.eval_shape(lambda params, own: update_shape_of(self.federation, params, own), self.params,
                                     self.problem)  # fmt: skip

    def asked(self) -> list[int]:
        """The numbers of the sites that take part in the next round."""
        federation, count = self.federation, self.problem.clients.count
        if federation.participation.always_all(count, federation.cohort):
            drawn = everybody(count)
        else:
            drawn = jax.jit(functools.partial(cohort_of, federation))(self.problem, self.state.round)
        return np.asarray(drawn.clients)[: int(drawn.size)].tolist()

    def leaves(self) -> list[np.ndarray]:
        """The server's params, as they travel."""
        return [np.asarray(leaf) for leaf in jax.tree.leaves(self.state.params)]

    def close(self, answers: dict[int, Answer]) -> RoundMetrics:
        """The server's step on what sites answered, by their numbers; of the others nothing counts.

        Raises ValueError: an update has other shapes than one of this federation."""
        count = self.problem.clients.count
        zeros = jax.tree.map(lambda leaf: np.zeros((count, *leaf.shape), leaf.dtype), self.shapes)
        leaves, structure = jax.tree.flatten(zeros)
        losses, numbers = np.zeros(count, np.float32), sorted(answers)
        for number in numbers:
            for whole, own in zip(leaves, answers[number].update, strict=True):
                if own.shape != whole.shape[1:] or own.dtype != whole.dtype:
                    raise ValueError(f"site {number} sent {own.dtype}{own.shape}, not {whole.dtype}{whole.shape[1:]}")
                whole[number] = own
            losses[number] = answers[number].loss
        padded = np.zeros(count, np.int32)
        padded[: len(numbers)] = numbers
        cohort = Cohort(padded, np.int32(len(numbers)))
        updates = jax.tree.unflatten(structure, leaves)
        self.state, told = server_round(self.federation, self.state, cohort, self.problem, (updates, losses))
        return told


def update_shape_of(federation: Federation, params, given: Problem):
    """Zeros of an update's shapes. Traced."""
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), update_shape(federation, params, given))


def placeholder(server: Server) -> Rows:
    """One row that says of what shapes a site's rows are."""
    classes, width = server.text.shape
    row = np.zeros((1, width), np.float32)
    return Rows(np.zeros(1, np.int32), row, np.zeros((1, classes), np.float32))


@functools.partial(jax.jit, static_argnums=0)
def server_round(federation: Federation, state: ServerState, cohort: Cohort, given: Problem, sent: tuple):
    """(state, metrics) of a round whose updates [C, ...] and losses [C] have been sent by the cohort."""
    updates, losses = sent
    opened = open_round(federation, state, by_size(cohort, given.clients), given)
    members = opened.members
    with run_precision(), federation.local.work.arithmetic():
        shape = update_shape(federation, state.params, given)

        def add(place, folded):
            site = members.clients[place]
            own = jax.tree.map(lambda leaf: leaf[site], updates)
            return add_one(federation, folded, members, place, Sent(own, members.states, (), losses[site]))

        first = nothing_yet(federation, state.params, shape, members)
        folded = jax.lax.fori_loop(0, (members.counts > 0).sum(), add, first)
    return close_round(federation, state, opened, folded)
