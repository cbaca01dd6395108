"""What the clients start a round from, where the way down is no plain copy: the params as they have them, to which the
server adds what its transforms leave of the difference to its own.

All clients are told every round's difference, whoever takes part, so that all have the same; what a transform loses is
in the difference of the next round.
"""

import jax
import jax.numpy as jnp
import numpy as np

from cachefl_jax.federation.parts import Federation
from cachefl_jax.federation.personal import join
from cachefl_jax.federation.problem import Problem, ServerState
from cachefl_jax.federation.transforms import Sender
from cachefl_jax.federation.work import Params

SERVER = np.uint32(2**32 - 3)  # folded into a round's key; no client has this number


def first_downloads(federation: Federation, params: Params) -> tuple:
    """(the params as the clients have them, what is kept for each transform), at round 0."""
    held, states = federation.local.work.travelling(params), []
    for transform in federation.downloads:
        states.append(transform.state(jax.tree.map(jnp.zeros_like, held)))
    return held, tuple(states)


def send_down(federation: Federation, state: ServerState, problem: Problem) -> tuple[Params, tuple]:
    """(the params that a round's clients start from, the state of the downloads). Traced.

    A transform must give an update of the shapes that it gets."""
    held, states = state.parts.downloads
    wanted, key = federation.local.work.travelling(state.params), jax.random.fold_in(problem.key, state.round)
    change, kept = jax.tree.map(jnp.subtract, wanted, held), []
    for number, transform in enumerate(federation.downloads):
        own = jax.random.fold_in(jax.random.fold_in(key, SERVER), number)
        hyper = problem.part_hyper.downloads[number]
        who = Sender(jnp.int32(-1), state.round, own, jnp.ones(()), hyper)
        change, kept_one = transform.apply(change, states[number], who)
        kept.append(kept_one)
    held = jax.tree.map(jnp.add, held, change)
    return join(held, state.params), (held, tuple(kept))
