"""Local training on the parameters themselves, for any loss and optimizer.

`sum_chunks`: a chunk of clients side by side (`jax.vmap`), chunk after chunk with a running weighted sum, so that
memory does not grow with the number of clients. With a chunk of the whole cohort, all clients at once on a stacked
pytree.

`sum_scan`: one client after another, which a CPU's caches reward. Clients in order of size come in ranges of many, two
and one steps, each with a program that fits: a client of two steps of AdamW never stores its moments.

Both give small clients programs of a small capacity, so that one large client makes no other dearer.
"""

import jax
import jax.numpy as jnp

from cachefl_jax.federation.local import NARROW, LocalTraining, Params, Rows, Walk, step_count, train_client
from cachefl_jax.federation.problem import Problem

UNROLLED = 2  # steps of a client that are written out one by one
LARGE = 32  # small clients have a program of their own where the largest client has so many times their rows


def train_one(local: LocalTraining, params: Params, problem: Problem, round_key: jax.Array, client, rows, walk=Walk()):  # noqa: B008
    """(params' change, loss) of one client; the start of `rows` is filled in here."""
    rows = rows._replace(start=problem.clients.offsets[client])
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

    chosen, counts, weights = (pad_to_chunks(x, client_chunk) for x in (chosen, counts, weights))
    totals, first = (jax.tree.map(jnp.zeros_like, params), jnp.zeros(())), jnp.zeros((), jnp.int32)
    for sized, least in size_ranges(local):

        def train_chunk(number, totals, sized=sized):
            place = number * client_chunk
            ids, rows, weight = (jax.lax.dynamic_slice(x, (place,), (client_chunk,)) for x in (chosen, counts, weights))

            def one(client, count):
                return train_one(sized, params, problem, round_key, client, Rows(0, count, most=rows[0]))

            changes = jax.vmap(one)(ids, rows)
            return jax.tree.map(lambda total, change: total + jnp.tensordot(weight, change, axes=1), totals, changes)

        after = (counts[::client_chunk] >= least).sum()
        totals, first = jax.lax.fori_loop(first, after, train_chunk, totals), after
    return totals


def size_ranges(local: LocalTraining) -> list[tuple[LocalTraining, int]]:
    """(local training, rows): clients of at least so many rows, that no range before has taken, train by it."""
    small = -(-max(UNROLLED * local.batch_size, NARROW) // local.batch_size) * local.batch_size
    if local.capacity <= LARGE * small:
        return [(local, 1)]
    return [(local, small + 1), (local._replace(capacity=small), 1)]


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
    totals, first = (jax.tree.map(jnp.zeros_like, params), jnp.zeros(())), jnp.zeros((), jnp.int32)
    for walk, sized, least in step_ranges(local):

        def add_client(number, totals, walk=walk, sized=sized):
            rows = Rows(0, counts[number])
            changes = train_one(sized, params, problem, round_key, chosen[number], rows, walk)
            return jax.tree.map(lambda total, change: total + weights[number] * change, totals, changes)

        after = (steps >= least).sum()
        totals, first = jax.lax.fori_loop(first, after, add_client, totals), after
    return totals


def step_ranges(local: LocalTraining) -> list[tuple[Walk, LocalTraining, int]]:
    """(walk, local training, steps): clients of at least so many steps, that no range before has taken, train by it."""
    ranges = []
    for sized, rows in size_ranges(local):
        least = max(step_count(local, rows), UNROLLED + 1)
        if step_count(local, sized.capacity) >= least:
            ranges.append((Walk(peeled=True), sized, least))
    for count in range(UNROLLED, 0, -1):
        if count % local.epochs == 0:
            rows = min(count // local.epochs * local.batch_size, local.capacity)
            ranges.append((Walk(unrolled=count), local._replace(capacity=rows), count))
    return ranges
