"""What a site does in a round: the simulator's client work, on rows that nobody else sees.

Axis letters: n rows of the site, N classes, D features.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.data import Split
from cachefl_jax.federation import Client, Clients, Federation, Problem, Start
from cachefl_jax.federation import Rows as Slice
from cachefl_jax.federation.primal.client import init_client, train_and_send
from cachefl_jax.methods import Server, find_method
from cachefl_jax.precision import run_precision
from cachefl_jax.simulation.build import problem
from cachefl_jax.simulation.examples import reads_features, rows_without_logits, text_logits_of
from cachefl_jax.simulation.parts import federation_of


class SiteWork:
    """A site's side of the rounds.

    Args:
        config: the site's.
        server: what the server brings, as it was sent.
        split: the site's own rows.
        largest: rows of the largest site: how many draws an epoch's order takes follows from it.
    """

    def __init__(self, config: ConfigDict, server: Server, split: Split, largest: int):
        method = find_method(config.method)
        self.federation = federation_of(config, method, largest)
        rows = rows_without_logits(split, None, None, reads_features(method.inputs))
        if "text_logits" in method.inputs:
            rows = rows._replace(text_logits=text_logits_of(split.features, server.text, server.logit_scale))
        count = len(split.labels)
        clients = Clients(np.array([0, count], np.int32), np.arange(count, dtype=np.int32))
        self.problem = problem(config, method, method.freeze(server, config), (clients, rows))
        self.structure = jax.tree.structure(method.init(server, config))

    def train(self, params: list[np.ndarray], number: int, client: int) -> tuple[list[np.ndarray], float]:
        """(the update's leaves, the mean loss) of a round.

        Args:
            params: leaves of the server's.
            number: of the round, from 0.
            client: the site's number, by which the order of its rows is drawn.
        """
        given = jax.tree.unflatten(self.structure, params)
        update, loss = site_round(self.federation, given, np.int32(number), np.int32(client), self.problem)
        return [np.asarray(leaf) for leaf in jax.tree.leaves(update)], float(loss)


@functools.partial(jax.jit, static_argnums=0)
def site_round(federation: Federation, params, number: jax.Array, client: jax.Array, given: Problem):
    """(update, mean loss) of the one client of a problem, which draws as client number `client` of a simulation."""
    key = jax.random.fold_in(given.key, number)
    start = Start(params, federation.local.work.shared(params), given, number, key)
    rows = Slice(jnp.int32(0), jnp.int32(given.clients.indices.shape[0]))
    with run_precision(), federation.local.work.arithmetic():
        own = Client(client, rows, init_client(federation, params, given))
        sent = train_and_send(federation, start, own)
    return sent.update, sent.loss
