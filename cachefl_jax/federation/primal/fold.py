"""A cohort's work, mapped over its clients and added up.

`fold_chunks`: a chunk of clients side by side (`jax.vmap`), chunk after chunk with a running total, so that memory does
not grow with the number of clients. With a chunk of the whole cohort, all clients at once on a stacked pytree.

`fold_scan`: one client after another, which a CPU's caches reward. Clients in order of size come in ranges of many, two
and one steps, each with a program that fits.
"""

import jax
import jax.numpy as jnp

from cachefl_jax.federation.folded import Folded, Members, add_many, add_one, nothing_yet
from cachefl_jax.federation.local import step_count
from cachefl_jax.federation.parts import Federation
from cachefl_jax.federation.primal.client import train_and_send, update_shape
from cachefl_jax.federation.primal.ranges import size_ranges, step_ranges
from cachefl_jax.federation.work import Client, Rows, Start


def fold_chunks(federation: Federation, client_chunk: int, start: Start, members: Members) -> Folded:
    """All members, `client_chunk` side by side. Traced."""
    places, offsets = len(members.clients), start.problem.clients.offsets
    members = jax.tree.map(lambda leaf: pad_to_chunks(leaf, client_chunk), members)
    update = update_shape(federation, start.params, start.problem)
    folded, first = nothing_yet(federation, start.params, update, members), jnp.zeros((), jnp.int32)
    for sized, least in size_ranges(federation.local):
        of_size = federation._replace(local=sized)

        def add_chunk(number, folded, of_size=of_size):
            place = number * client_chunk
            cut = lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, place, client_chunk)  # noqa: E731
            those = jax.tree.map(cut, members._replace(states=folded.states))

            def one(member):
                rows = Rows(offsets[member.clients], member.counts, most=those.counts[0])
                return train_and_send(of_size, start, as_client(member, rows))

            sent = jax.vmap(one)(those)
            return add_many(federation, folded, members, place, sent)

        after = (members.counts[::client_chunk] >= least).sum(dtype=jnp.int32)
        folded, first = jax.lax.fori_loop(first, after, add_chunk, folded), after
    own = lambda tree: jax.tree.map(lambda leaf: leaf[:places], tree)  # noqa: E731
    total = own(folded.total) if federation.aggregation.collect else folded.total
    return folded._replace(total=total, states=own(folded.states))


def fold_scan(federation: Federation, start: Start, members: Members) -> Folded:
    """All members, one after another. Traced."""
    steps, offsets = step_count(federation.local, members.counts), start.problem.clients.offsets
    update = update_shape(federation, start.params, start.problem)
    folded, first = nothing_yet(federation, start.params, update, members), jnp.zeros((), jnp.int32)
    for layout, sized, least in step_ranges(federation.local, compact=federation.partial):
        of_size = federation._replace(local=sized)

        def add_client(place, folded, layout=layout, of_size=of_size):
            member = jax.tree.map(lambda leaf: leaf[place], members._replace(states=folded.states))
            client = as_client(member, Rows(offsets[member.clients], member.counts))
            return add_one(federation, folded, members, place, train_and_send(of_size, start, client, layout))

        after = (steps >= least).sum(dtype=jnp.int32)
        folded, first = jax.lax.fori_loop(first, after, add_client, folded), after
    return folded


def as_client(member: Members, rows: Rows) -> Client:
    """One member, a leaf of whom is a number, as a client of these rows."""
    more = {"steps": member.steps, "age": member.ages}
    return Client(member.clients, rows, member.states, member.weights, **more)


def pad_to_chunks(rows: jax.Array, chunk: int) -> jax.Array:
    """[M, ...] padded with zeros to whole chunks, so that no slice is shifted to fit."""
    return jnp.pad(rows, [(0, -len(rows) % chunk), *[(0, 0)] * (rows.ndim - 1)])
