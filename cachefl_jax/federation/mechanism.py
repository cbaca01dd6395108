"""What the server does with a cohort's aggregate before its step: it adds the noise of differential privacy, say.

A mechanism may keep something from round to round, such as a clipping norm that follows the clients' updates. Their
transforms see it as `Sender.server`, and tell it a number each (`Transform.tells`), of which the server gets the sum.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax


class Release(NamedTuple):
    """What a mechanism knows of a round besides the aggregate."""

    key: jax.Array  # its own in this round
    round: jax.Array  # [] int32
    clients: jax.Array  # [] int32, how many took part
    told: jax.Array | tuple  # [T] of each transform, what the clients tell of it, added up; () where none tells
    hyper: Any  # the mechanism's traced numbers


class Mechanism(NamedTuple):
    """A mechanism. All functions are traced.

    Attributes:
        release: (aggregate, state, Release) -> (aggregate, state).
        state: (params that travel, hyper) -> what the server keeps for it, at round 0.
        hyper: config -> its numbers, a pytree of floats; a sweep varies them without compiling anew.
    """

    release: Callable[[Any, Any, Release], tuple[Any, Any]]
    state: Callable[[Any, Any], Any] = lambda params, hyper: ()
    hyper: Callable[[Any], Any] = lambda config: ()
