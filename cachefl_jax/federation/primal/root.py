"""The server's own update: that of a client which would hold the server's rows."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cachefl_jax.federation.parts import Federation
from cachefl_jax.federation.primal.client import init_client, train_and_send
from cachefl_jax.federation.problem import Clients
from cachefl_jax.federation.work import Client, Rows, Start

SERVER = np.uint32(2**32 - 7)  # folded into a round's key; no client has this number


def update_of_server(federation: Federation, start: Start) -> Any:
    """What training on `Problem.root`, as a client trains, sends without any transform. Traced.

    Raises ValueError: the problem has no such rows."""
    local, root = federation.local, start.problem.root
    if root is None:
        raise ValueError("this aggregation asks for the server's own update: Problem.root has to hold its rows")
    count = len(jax.tree.leaves(root)[0])
    capacity = -(-count // local.batch_size) * local.batch_size
    work = local.work._replace(keep=None)
    local = local._replace(capacity=capacity, views=1, work=work, poison=None, private=False)
    plain = federation._replace(local=local, transforms=())
    clients = Clients(jnp.asarray([0, count], jnp.int32), jnp.arange(count, dtype=jnp.int32))
    start = start._replace(problem=start.problem._replace(data=root, clients=clients, gram=None), hostile=None)
    own = init_client(plain, start.params, start.problem)
    rows = Rows(jnp.int32(0), jnp.int32(count), count)
    return train_and_send(plain, start, Client(SERVER, rows, own)).update
