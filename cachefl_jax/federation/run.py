"""Many rounds as one program: the host acts only where it must (evaluation, checkpoint, progress)."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from cachefl_jax.federation.checks import ClientCheck, all_finite, check_clients, count_rows
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
    """`count` rounds; traced. Losses and examples of the i-th stand at place i of [capacity], modulo `capacity`.

    Each round draws its own `cohort` clients (0: all) by the run's key and the round's number alone, so that a run cut
    into pieces anywhere is the same run.
    """
    clients = in_view(problem.clients, local.views, 0)
    everyone = by_size(everybody(clients.count), clients) if cohort in (0, clients.count) else None

    def one(number, carry):
        state, losses, examples = carry
        seated = everyone
        if seated is None:
            key = jax.random.fold_in(jax.random.fold_in(problem.key, state.round), COHORT)
            seated = by_size(draw_cohort(key, clients.count, cohort), clients)
        state, new = train_round(local, server_optimizer, plan, state, seated, problem)
        place = number % capacity
        return state, losses.at[place].set(new.train_loss), examples.at[place].set(new.examples)

    empty = jnp.zeros(capacity), jnp.zeros(capacity, jnp.int32)
    state, losses, examples = jax.lax.fori_loop(0, count, one, (state, *empty))
    # One pass at the end: a number that is not finite never becomes so again.
    return state, RoundMetrics(losses, examples, all_finite(state.params))


class Run:
    """A compiled run: (state, count, problem) -> (state, metrics). The state's buffers are donated.

    A call raises a ValueError for clients whose rows are not their own or too many (`checks.check_clients`).
    """

    def __init__(self, local: LocalTraining, compiled: jax.stages.Compiled):
        self.compiled, self.check_once = compiled, ClientCheck(local)

    def __call__(self, state: ServerState, count: jax.Array, problem: Problem) -> tuple[ServerState, RoundMetrics]:
        self.check_once(problem.clients, problem.data)
        return self.compiled(state, count, problem)

    def memory_analysis(self):
        """XLA's account of what the program takes of a device's memory."""
        return self.compiled.memory_analysis()


def compile_run(
    local: LocalTraining,
    server_optimizer: ServerOptimizer,
    plan: Plan,
    cohort: int,
    capacity: int,
    state: ServerState,
    problem: Problem,
) -> Run:
    """The run, compiled for arguments of these shapes, which may be `jax.ShapeDtypeStruct`s: nothing is allocated.

    With several devices the arguments must lie on all of them (`place`).

    Raises:
        ValueError: the plan cannot train this, or the clients' rows are not their own or too many.
    """
    check_clients(local, problem.clients, count_rows(problem.data))

    def rounds(state, count, problem):
        return train_rounds(local, server_optimizer, plan, cohort, capacity, state, count, problem)

    spread = {} if plan.devices == 1 else {"in_shardings": whole(plan), "out_shardings": whole(plan)}
    count = jax.ShapeDtypeStruct((), jnp.int32)
    return Run(local, jax.jit(rounds, donate_argnums=0, **spread).lower(state, count, problem).compile())


def whole(plan: Plan) -> NamedSharding:
    """On each of the plan's devices, all of it."""
    return NamedSharding(client_mesh(plan.devices), PartitionSpec())


def place(tree, plan: Plan):
    """A pytree of host or device arrays on each of the plan's devices; every process brings the same.

    The CPU devices of a process share one copy of what none of them gives away.
    """
    return jax.device_put(tree) if plan.devices == 1 else place_on(tree, whole(plan))


def place_on(tree, spread: NamedSharding):
    """A pytree of host or device arrays whole on each of the sharding's devices."""

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
