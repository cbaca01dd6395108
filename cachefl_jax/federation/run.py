"""Many rounds as one program: the host acts only where it must (evaluation, checkpoint, progress)."""

import jax
import jax.numpy as jnp
import numpy as np

from cachefl_jax.federation.checks import ClientCheck, all_finite, check_clients, count_rows
from cachefl_jax.federation.participation import by_size, everybody
from cachefl_jax.federation.parts import Federation
from cachefl_jax.federation.place import padded, place
from cachefl_jax.federation.plan import Plan
from cachefl_jax.federation.problem import Cohort, Drift, Problem, RoundMetrics, ServerState, in_view
from cachefl_jax.federation.round import prepare, train_round
from cachefl_jax.federation.schedule import AS_EVER, attending
from cachefl_jax.federation.spread import spread_out

COHORT = np.uint32(2**32 - 1)  # folded into a round's key to draw its cohort; no client has this number


def train_rounds(
    federation: Federation, plan: Plan, capacity: int, state: ServerState, count: jax.Array, problem: Problem
) -> tuple[ServerState, RoundMetrics]:
    """`count` rounds; traced. The metrics of the i-th stand at place i of [capacity], modulo `capacity`.

    Each round draws its own cohort by the run's key and the round's number alone, so that a run cut into pieces
    anywhere is the same run.
    """
    clients, size = in_view(problem.clients, federation.local.views, 0), federation.cohort
    always_all = federation.participation.always_all(clients.count, size)
    everyone = by_size(everybody(clients.count), clients) if always_all else None

    def one(number, carry):
        state, metrics = carry
        ordered, pace = everyone, AS_EVER
        if problem.schedule:
            ordered, pace = attending(problem.schedule, state.round, clients)
        elif ordered is None:
            ordered = by_size(cohort_of(federation, problem, state.round), clients)
        state, new = train_round(federation, plan, state, ordered, problem, pace)
        # One pass over the params at the end is enough: a number that is not finite never becomes so again.
        new = new._replace(finite=None)
        return state, jax.tree.map(lambda all_of_them, one: all_of_them.at[number % capacity].set(one), metrics, new)

    zeros, numbers = jnp.zeros(capacity), jnp.zeros(capacity, jnp.int32)
    drift = Drift(zeros, zeros, zeros) if federation.drift else None
    sent = None if federation.measures is None else jnp.zeros((capacity, 2), jnp.uint32)
    told = RoundMetrics(zeros, numbers, None, numbers, drift, sent)
    state, metrics = jax.lax.fori_loop(0, count, one, (state, told))
    return state, metrics._replace(finite=all_finite(state.params))


def cohort_of(federation: Federation, problem: Problem, number: jax.Array) -> Cohort:
    """Who takes part in a round, after so many others."""
    key = jax.random.fold_in(jax.random.fold_in(problem.key, number), COHORT)
    count = problem.clients.count // federation.local.views
    if federation.participation.turn is not None:
        return federation.participation.turn(number, count, federation.cohort)
    return federation.participation.draw(key, count, federation.cohort)


class Run:
    """A compiled run: (state, count, problem) -> (state, metrics). The state's buffers are donated.

    A call raises a ValueError for clients whose rows are not their own or too many, or of other sizes than the program
    was made for (`checks.check_clients`).
    """

    def __init__(self, federation: Federation, compiled: jax.stages.Compiled):
        self.compiled, self.check_once = compiled, ClientCheck(federation.local, federation.sizes)

    def __call__(self, state: ServerState, count: jax.Array, problem: Problem) -> tuple[ServerState, RoundMetrics]:
        self.check_once(problem.clients, problem.data)
        return self.compiled(state, count, problem)

    def memory_analysis(self):
        """XLA's account of what the program takes of a device's memory."""
        return self.compiled.memory_analysis()


def compile_run(federation: Federation, plan: Plan, capacity: int, state: ServerState, problem: Problem) -> Run:
    """The run, compiled for arguments of these shapes, which may be `jax.ShapeDtypeStruct`s: nothing is allocated.

    With several devices the arguments must lie on all of them (`place`).

    Raises ValueError: the plan cannot train this, or the clients' rows are not their own or too many."""
    check_clients(federation.local, problem.clients, count_rows(problem.data), federation.sizes)

    def rounds(state, count, problem):
        return train_rounds(federation, plan, capacity, state, count, problem)

    program, count = spread_out(rounds, plan, state, problem), jax.ShapeDtypeStruct((), jnp.int32)
    return Run(federation, program.lower(padded(state, plan), count, problem).compile())


def add_gram(federation: Federation, plan: Plan, problem: Problem) -> Problem:
    """A placed problem with what `prepare` computes once a run: by one device of each process, for all of them."""
    if plan.strategy != "dual":
        return problem
    mine = jax.tree.map(lambda leaf: leaf.addressable_data(0), problem)
    gram = jax.jit(lambda problem: prepare(federation, plan, problem).gram)(mine)
    return problem._replace(gram=place(gram, plan))
