"""Leaves of the params that every client keeps for itself, whatever the algorithm: trained where they are, never sent,
never aggregated. Arivazhagan et al., arXiv 1912.00818; trained at the same time as the others, it is FedSim of Pillutla
et al., 2204.03809, Algorithm 3.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from cachefl_jax.federation.local import LocalTraining, LoopLayout
from cachefl_jax.federation.work import Client, ClientWork, Finished, Params, Start


class Own(NamedTuple):
    """What a client keeps from round to round."""

    leaves: Any  # its own leaves of the params, None in the places of the others
    beside: Any  # what the algorithm keeps


def join(params: Any, others: Any) -> Any:
    """`params` with the leaves of `others` where it has None."""
    return jax.tree.map(
        lambda leaf, other: other if leaf is None else leaf, params, others, is_leaf=lambda x: x is None
    )


@functools.cache  # so that what is compiled for it is compiled once
def with_personal_leaves(work: ClientWork, personal: Callable[[Params], Any]) -> ClientWork:
    """`work` on all leaves but the clients' own, which train beside them.

    Args:
        work: that keeps no model of a client's own and counts nothing.
        personal: params -> a pytree of bools, true for what a client keeps.

    Raises ValueError: the work has clients that train from elsewhere, or do not train."""
    if work.begin or work.keep or work.model or work.sent or work.statistics:
        raise ValueError("leaves of a client's own need an algorithm whose clients all train the server's model")

    def sent(params: Params) -> Any:
        return jax.tree.map(lambda leaf, own: None if own else leaf, params, personal(params))

    def own(params: Params) -> Any:
        return jax.tree.map(lambda leaf, own: leaf if own else None, params, personal(params))

    def model(params: Params, state: Own) -> Params:
        return join(sent(params), state.leaves)

    def keep(local: LocalTraining, start: Start, client: Client, trained: Params, layout: LoopLayout) -> Own:
        del local, start, layout
        return Own(own(trained), client.state.beside)

    def correct(gradient: Params, shared: Any, state: Own) -> Params:
        return join(work.correct(sent(gradient), shared, state.beside), own(gradient))

    def update(change: Any, done: Finished) -> tuple[Any, Own]:
        update, beside = work.update(change, done._replace(state=done.state.beside))
        return update, Own(done.state.leaves, beside)

    def apply(aggregate: Any, start: Start, share: jax.Array) -> tuple[Params, Any]:
        change, shared = aggregate, start.shared
        if work.apply is not None:
            change, shared = work.apply(aggregate, start._replace(params=sent(start.params)), share)
        return join(change, jax.tree.map(jnp.zeros_like, own(start.params))), shared

    return work._replace(
        shared=lambda params: work.shared(sent(params)),
        state=lambda params: Own(own(params), work.state(sent(params))),
        correct=work.correct and correct, update=work.update and update,
        begin=model, keep=keep, sent=sent, model=model, apply=apply,
    )  # fmt: skip
