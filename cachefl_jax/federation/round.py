"""One federated round, over any params pytree: the cohort in order of size, dealt to the devices, trained by the plan's
strategy, averaged, and the server's step.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from cachefl_jax.federation import dual, gram, primal
from cachefl_jax.federation.checks import ClientCheck, all_finite
from cachefl_jax.federation.cohort import by_size, deal
from cachefl_jax.federation.local import LocalTraining, Params
from cachefl_jax.federation.plan import Plan, check
from cachefl_jax.federation.problem import Cohort, Problem, RoundMetrics, ServerState, in_view
from cachefl_jax.federation.server import ServerHyper
from cachefl_jax.precision import full_precision

ServerOptimizer = Callable[[ServerHyper], optax.GradientTransformation]


def init_server(params: Params, optimizer: optax.GradientTransformation) -> ServerState:
    """The server before round 1, for `params` of float32 leaves.

    Copies them, because a round gives its input's buffers away, and gives Python numbers the type that a round returns.
    """
    params = jax.tree.map(lambda leaf: jnp.array(leaf, jnp.result_type(leaf)), params)
    return ServerState(jnp.zeros((), jnp.int32), params, optimizer.init(params))


def prepare(local: LocalTraining, plan: Plan, problem: Problem) -> Problem:
    """The problem with what a strategy computes once a run. Traced."""
    if plan.strategy != "dual":
        return problem
    with full_precision():
        return problem._replace(gram=gram.gram_matrices(local, problem.clients, problem.data))


def make_round(local: LocalTraining, server_optimizer: ServerOptimizer, plan: Plan) -> Callable:
    """The jitted round: (state, cohort, problem) -> (state, metrics). The state's buffers are donated.

    Args:
        local: what one client does.
        server_optimizer: takes the negated mean change of the clients as its gradient.
        plan: how the cohort is spread over time and devices. Whatever it says, the result is the same up to float32's
            rounding; with the same plan, it is the same bits for every order of the cohort.

    The result raises a ValueError for a plan that cannot train this, and for clients whose rows are not their own or
    too many (`checks.check_clients`).
    """
    check_once = ClientCheck(local)

    def one_round(state: ServerState, cohort: Cohort, problem: Problem) -> tuple[ServerState, RoundMetrics]:
        seated = by_size(cohort, in_view(problem.clients, local.views, 0))
        return train_round(local, server_optimizer, plan, state, seated, problem)

    compiled = on_devices(one_round, plan)

    def checked(state: ServerState, cohort: Cohort, problem: Problem) -> tuple[ServerState, RoundMetrics]:
        check_once(problem.clients, problem.data)
        return compiled(state, cohort, problem)

    return checked


def on_devices(body: Callable, plan: Plan) -> Callable:
    """`body` jitted, its first argument donated; all arguments and results whole on each of the plan's devices."""
    if plan.devices == 1:
        return jax.jit(body, donate_argnums=0)
    # The first state is not yet on all devices: placing it here keeps the second call, whose state comes placed out of
    # the first, from compiling anew.
    whole = NamedSharding(client_mesh(plan.devices), PartitionSpec())
    compiled = jax.jit(body, donate_argnums=0, in_shardings=whole, out_shardings=whole)
    return lambda state, *rest: compiled(jax.device_put(state, whole), *rest)


@functools.cache
def client_mesh(devices: int) -> Mesh:
    """The first `devices` devices, of all processes, as an axis `clients`."""
    return jax.make_mesh((devices,), ("clients",), (AxisType.Auto,), devices=jax.devices()[:devices])


def train_round(
    local: LocalTraining,
    server_optimizer: ServerOptimizer,
    plan: Plan,
    state: ServerState,
    seated: tuple[jax.Array, jax.Array],
    problem: Problem,
) -> tuple[ServerState, RoundMetrics]:
    """A round, not jitted; `seated` is what `by_size` gives."""
    chosen, counts = seated  # the same in all views of the data
    problem = problem._replace(clients=in_view(problem.clients, local.views, state.round))
    with full_precision():
        examples = counts.sum()
        weights = counts / jnp.maximum(examples, 1)
        round_key = jax.random.fold_in(problem.key, state.round)
        change, loss = sum_changes(local, plan, state.params, (chosen, counts, weights), problem, round_key)
        pseudo_gradient = jax.tree.map(jnp.negative, change)
        optimizer = server_optimizer(problem.server)
        updates, optimizer_state = optimizer.update(pseudo_gradient, state.optimizer_state, state.params)
        params = optax.apply_updates(state.params, updates)
    return ServerState(state.round + 1, params, optimizer_state), RoundMetrics(loss, examples, all_finite(params))


def sum_changes(local: LocalTraining, plan: Plan, params: Params, cohort, problem: Problem, round_key: jax.Array):
    """The cohort's weighted changes and losses, added up over the devices."""
    check(plan, local, jax.tree.leaves(params)[0].shape[-1] if plan.strategy == "dual" else 0)
    if plan.strategy == "dual":
        strategy = functools.partial(dual.sum_changes, local, plan.client_chunk, plan.block_rows)
    elif plan.strategy == "scan":
        strategy = functools.partial(primal.sum_scan, local)
    else:
        strategy = functools.partial(primal.sum_chunks, local, plan.client_chunk)
    if plan.devices == 1:
        return strategy(params, *cohort, problem, round_key)

    # One program a device, each with loops of its own length, and one sum at the end.
    def on_one(cohort, *whole):
        params, problem, round_key = whole
        return jax.lax.psum(strategy(params, *(rows[0] for rows in cohort), problem, round_key), "clients")

    split, whole = PartitionSpec("clients"), PartitionSpec()
    # With check_vma, a gradient with respect to the params, which all devices share, would be summed over the devices:
    # not the client's own.
    spread = jax.shard_map(
        on_one, mesh=client_mesh(plan.devices), in_specs=(split, whole, whole, whole), out_specs=whole, check_vma=False
    )
    dealt = tuple(deal(rows, plan.devices) for rows in cohort)
    return spread(dealt, params, problem, round_key)
