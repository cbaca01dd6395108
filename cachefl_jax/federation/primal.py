"""Local training on the parameters themselves, for any loss and optimizer.

`sum_chunks`: a chunk of clients side by side (`jax.vmap`), chunk after chunk with a running weighted sum, so that
memory does not grow with the number of clients. With a chunk of the whole cohort, all clients at once on a stacked
pytree.

`sum_scan`: one client after another, which a CPU's caches reward. Clients in order of size come in ranges of many, two
and one steps, each with a program that fits: a client of two steps of AdamW never stores its moments.
"""

import jax
import jax.numpy as jnp

from cachefl_jax.federation.local import LocalTraining, Params, Rows, Walk, step_count, train_client
from cachefl_jax.federation.problem import Problem

UNROLLED = 2  # steps of a client that are written out one by one


def train_one(local: LocalTraining, params: Params, problem: Problem, round_key: jax.Array, client, count, walk=Walk()):  # noqa: B008
    """(params' change, loss) of one client of `count` rows."""
    rows = Rows(problem.clients.offsets[client], count)
    key = jax.random.fold_in(round_key, client)
    trained, loss = train_client(
        local, key, params, problem.frozen, problem.hyper, problem.data, problem.clients.indices, rows, walk
    )
    return jax.tree.map(jnp.subtract, trained, params), loss


def sum_chunks(
    local: LocalTraining,
    client_chunk: int,
    params: Params,
    chosen: jax.Array,
    counts: jax.Array,
    weights: jax.Array,
    problem: Problem,
    round_key: jax.Array,
) -> tuple[Params, jax.Array]:
    """The clients' weighted changes and losses, added up.

    Args:
        local: what one client does.
        client_chunk: clients side by side.
        params: where all of them start.
        chosen: [M] client numbers, the largest client first; those with count 0 come last.
        counts: [M] their rows.
        weights: [M] their shares in the mean.
        problem: the federation's arrays.
        round_key: this round's.
    """

    def one(client, count):
        return train_one(local, params, problem, round_key, client, count)

    def train_chunk(number, totals):
        first = number * client_chunk
        ids, rows, weight = (jax.lax.dynamic_slice(x, (first,), (client_chunk,)) for x in (chosen, counts, weights))
        changes = jax.vmap(one)(ids, rows)
        return jax.tree.map(lambda total, change: total + jnp.tensordot(weight, change, axes=1), totals, changes)

    chunks = -(-(counts > 0).sum() // client_chunk)
    chosen, counts, weights = (pad_to_chunks(x, client_chunk) for x in (chosen, counts, weights))
    zeros = (jax.tree.map(jnp.zeros_like, params), jnp.zeros(()))
    return jax.lax.fori_loop(0, chunks, train_chunk, zeros)


def pad_to_chunks(rows: jax.Array, chunk: int) -> jax.Array:
    """[M] padded with zeros to whole chunks, so that no slice is shifted to fit."""
    return jnp.pad(rows, (0, -rows.shape[0] % chunk))


def sum_scan(
    local: LocalTraining,
    params: Params,
    chosen: jax.Array,
    counts: jax.Array,
    weights: jax.Array,
    problem: Problem,
    round_key: jax.Array,
) -> tuple[Params, jax.Array]:
    """As `sum_chunks`."""
    steps = step_count(local, counts)
    most = step_count(local, local.capacity)
    totals, first = (jax.tree.map(jnp.zeros_like, params), jnp.zeros(())), jnp.zeros((), jnp.int32)
    walks = [(Walk(peeled=True), UNROLLED + 1)] if most > UNROLLED else []
    walks += [(Walk(unrolled=count), count) for count in range(UNROLLED, 0, -1) if count % local.epochs == 0]
    for walk, least in walks:

        def add_client(number, totals, walk=walk):
            changes = train_one(local, params, problem, round_key, chosen[number], counts[number], walk)
            return jax.tree.map(lambda total, change: total + weights[number] * change, totals, changes)

        after = (steps >= least).sum()
        totals, first = jax.lax.fori_loop(first, after, add_client, totals), after
    return totals
