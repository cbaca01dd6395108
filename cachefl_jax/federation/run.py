"""Many rounds as one program: the host acts only where it must (evaluation, checkpoint, progress)."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from cachefl_jax.federation.cohort import by_size, draw_cohort, everybody
from cachefl_jax.federation.local import LocalTraining
from cachefl_jax.federation.plan import Plan
from cachefl_jax.federation.problem import Problem, RoundMetrics, ServerState, in_view
from cachefl_jax.federation.round import ServerOptimizer, client_mesh, prepare, train_round

COHORT = np.uint32(2**32 - 1)  # folded into a round's key to draw its cohort; no client has this number


def train_rounds(
    local: LocalTraining,
    server_optimizer: ServerOptimizer,
    plan: Plan,
    cohort: int,
    capacity: int,
    state: ServerState,
    count: jax.Array,
    problem: Problem,
) -> tuple[ServerState, RoundMetrics]:
    """`count` rounds; traced. The metrics of the i-th stand at place i of [capacity], modulo `capacity`.

    Each round draws its own `cohort` clients (0: all) by the run's key and the round's number alone, so that a run cut
    into pieces anywhere is the same run.
    """
    clients = in_view(problem.clients, local.views, 0)
    everyone = by_size(everybody(clients.count), clients) if cohort in (0, clients.count) else None

    def one(number, carry):
        state, metrics = carry
        seated = everyone
        if seated is None:
            key = jax.random.fold_in(jax.random.fold_in(problem.key, state.round), COHORT)
            seated = by_size(draw_cohort(key, clients.count, cohort), clients)
        state, new = train_round(local, server_optimizer, plan, state, seated, problem)
        return state, jax.tree.map(lambda rounds, value: rounds.at[number % capacity].set(value), metrics, new)

    empty = RoundMetrics(jnp.zeros(capacity), jnp.zeros(capacity, jnp.int32))
    return jax.lax.fori_loop(0, count, one, (state, empty))


def compile_run(
    local: LocalTraining,
    server_optimizer: ServerOptimizer,
    plan: Plan,
    cohort: int,
    capacity: int,
    state: ServerState,
    problem: Problem,
) -> jax.stages.Compiled:
    """(state, count, problem) -> (state, metrics), compiled for arguments of these shapes, which may be
    `jax.ShapeDtypeStruct`s: nothing is allocated. The state's buffers are donated.

    With several devices the arguments must lie on all of them (`place`).
    """

    def rounds(state, count, problem):
        return train_rounds(local, server_optimizer, plan, cohort, capacity, state, count, problem)

    spread = {} if plan.devices == 1 else {"in_shardings": whole(plan), "out_shardings": whole(plan)}
    count = jax.ShapeDtypeStruct((), jnp.int32)
    return jax.jit(rounds, donate_argnums=0, **spread).lower(state, count, problem).compile()


def whole(plan: Plan) -> NamedSharding:
    """On each of the plan's devices, all of it."""
    return NamedSharding(client_mesh(plan.devices), PartitionSpec())


def place(tree, plan: Plan):
    """A pytree of host or device arrays on each of the plan's devices; every process brings the same.

    The CPU devices of a process share one copy of what none of them gives away.
    """
    if plan.devices == 1:
        return jax.device_put(tree)
    spread = whole(plan)

    def put(leaf):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(put(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
        leaf = shareable(leaf, spread)
        if spread.is_fully_addressable:
            return jax.device_put(leaf, spread)
        return jax.make_array_from_callback(leaf.shape, spread, lambda index: leaf[index])

    return jax.tree.map(put, tree)


def shareable(leaf, spread: NamedSharding):
    """The leaf on the host; for CPU devices aligned as JAX aligns its own memory: they take it without a copy each."""
    first = min(spread.addressable_devices, key=lambda device: device.id)
    return np.asarray(jax.device_put(leaf, first) if first.platform == "cpu" else leaf)


def add_gram(local: LocalTraining, plan: Plan, problem: Problem) -> Problem:
    """A placed problem with what `prepare` computes once a run: by one device of each process, for all of them."""
    if plan.strategy != "dual":
        return problem
    mine = jax.tree.map(lambda leaf: leaf.addressable_data(0), problem)
    gram = jax.jit(lambda problem: prepare(local, plan, problem).gram)(mine)
    return problem._replace(gram=place(gram, plan))
