"""What reaches the server in a round, to be read on the host: a round once more, which leaves it as its state."""

from collections.abc import Callable

import jax

from cachefl_jax.federation.parts import Federation
from cachefl_jax.federation.plan import Plan
from cachefl_jax.federation.problem import Cohort, PartStates, Problem, ServerState
from cachefl_jax.federation.round import make_round


def keeping(federation: Federation, keep: Callable, collect: Callable | None = None) -> Federation:
    """The same round, after which the server still has what `keep` makes of it as the state of its aggregation.

    Args:
        federation: any.
        keep: `aggregation.Aggregation.keep`.
        collect: instead of the aggregation's own way; its updates then lie side by side for `keep`, too.
    """
    more = {} if collect is None else {"collect": collect, "add": None, "merge": None, "zero": None, "finish": None}
    return federation._replace(aggregation=federation.aggregation._replace(keep=keep, **more))


def seeing(federation: Federation) -> Callable:
    """(state, cohort, problem) -> what a federation of `keeping` keeps of the state's next round; the cohort in the
    round's order, `by_size`. Compiled once; the state's buffers are given away."""
    one_round = make_round(federation, Plan("scan"))

    def seen(state: ServerState, cohort: Cohort, problem: Problem):
        after, _ = one_round(state._replace(parts=state.parts or PartStates()), cohort, problem)
        return after.parts.aggregation

    return seen


def seeing_updates(federation: Federation) -> Callable:
    """`seeing` each client's update after all transforms, [M, ...]."""
    apart = keeping(
        federation, lambda updates, aggregate, received: updates,
        collect=lambda updates, received: jax.tree.map(lambda leaf: leaf[0], updates),
    )  # fmt: skip
    return seeing(apart)


def seeing_aggregate(federation: Federation) -> Callable:
    """`seeing` what the aggregation makes of the updates, before the server's mechanism."""
    return seeing(keeping(federation, lambda total, aggregate, received: aggregate))
