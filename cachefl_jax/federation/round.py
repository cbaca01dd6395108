"""One federated round as one compiled program, over any params pytree.

The cohort is sorted by size and cut into chunks. Chunks run one after another (a scan with a running weighted sum, so
that memory does not grow with the number of clients); the clients of a chunk run side by side (`jax.vmap` over the
stacked params). The number of chunks is traced: cohorts of every size share one compilation.

FedAvg: McMahan et al., arXiv 1602.05629. Server optimizers: Reddi et al., "Adaptive Federated Optimization",
arXiv 2003.00295; with SGD at learning rate 1 they are FedAvg.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from cachefl_jax.federation.local import Hyper, LocalTraining, Params, Rows, train_client


class ServerState(NamedTuple):
    """What the server carries from round to round; a checkpoint holds exactly this."""

    round: jax.Array  # [] int32, rounds done
    params: Params
    optimizer_state: Any


class Clients(NamedTuple):
    """Who holds what, as index rows into the data."""

    offsets: jax.Array  # [C + 1] int32
    indices: jax.Array  # [n] int32


class Cohort(NamedTuple):
    """Who takes part in a round; padded, so that its size may change from round to round."""

    clients: jax.Array  # [M] int32 client numbers, the first `size` of them count
    size: jax.Array  # [] int32


class RoundMetrics(NamedTuple):
    train_loss: jax.Array  # [] mean over the cohort's examples, before each local step
    examples: jax.Array  # [] rows that the cohort holds


def server_sgd(learning_rate: float, momentum: float = 0.0) -> optax.GradientTransformation:
    """FedAvg at learning rate 1 without momentum; FedAvgM with it."""
    return optax.sgd(learning_rate, momentum=momentum or None)


def server_adam(learning_rate: float, momentum: float = 0.0) -> optax.GradientTransformation:
    """FedAdam with the paper's beta2 0.99 and tau 1e-3; `momentum` is beta1.

    Both moments are corrected for their start at zero, as in Adam; the paper's Algorithm 2 leaves that out, so its
    first rounds take smaller steps.
    """
    return optax.adam(learning_rate, b1=momentum, b2=0.99, eps=1e-3)


SERVER_OPTIMIZERS = {"sgd": server_sgd, "adam": server_adam}


def init_server(params: Params, optimizer: optax.GradientTransformation) -> ServerState:
    """The server before round 1, for `params` of float32 leaves.

    Copies them, because a round gives its input's buffers away, and gives Python numbers the type that a round returns.
    """
    params = jax.tree.map(lambda leaf: jnp.array(leaf, jnp.result_type(leaf)), params)
    return ServerState(jnp.zeros((), jnp.int32), params, optimizer.init(params))


def make_round(
    local: LocalTraining, server_optimizer: optax.GradientTransformation, client_chunk: int, devices: int = 1
) -> Callable[..., tuple[ServerState, RoundMetrics]]:
    """The jitted round: (state, cohort, clients, data, frozen, hyper, key) -> (state, metrics).

    Args:
        local: what one client does.
        server_optimizer: takes the negated mean change of the clients as its gradient.
        client_chunk: clients side by side, a multiple of `devices`.
        devices: over how many devices a chunk's clients are spread.

    Args of the result:
        state: the server's; its buffers are donated.
        cohort: who takes part.
        clients: who holds what.
        data: a pytree of arrays [n, ...], stored once.
        frozen: what else the loss needs, a pytree.
        hyper: the clients' optimizer's numbers.
        key: the run's key; a client's is fold_in(fold_in(key, round), client), so that neither order, chunks nor a
            resumed run change what it draws.

    Raises:
        ValueError: the chunk cannot be spread evenly.
    """
    if client_chunk < 1 or client_chunk % devices:
        raise ValueError(f"client_chunk {client_chunk} is not a multiple of {devices} device(s), 1 or more")
    sharding = client_sharding(devices)
    body = functools.partial(train_round, local, server_optimizer, client_chunk, sharding)
    if sharding is None:
        return jax.jit(body, donate_argnums=0)
    # All but a chunk's clients lies whole on every device. The first state does not yet: placing it here keeps the
    # second round, whose state comes placed out of the first, from compiling anew.
    whole = NamedSharding(sharding.mesh, PartitionSpec())
    compiled = jax.jit(body, donate_argnums=0, in_shardings=whole, out_shardings=whole)
    return lambda state, *rest: compiled(jax.device_put(state, whole), *rest)


def client_sharding(devices: int) -> NamedSharding | None:
    """A chunk's clients over the first `devices` devices; None where there is only one."""
    if devices == 1:
        return None
    mesh = jax.make_mesh((devices,), ("clients",), (AxisType.Auto,), devices=jax.devices()[:devices])
    return NamedSharding(mesh, PartitionSpec("clients"))


def train_round(
    local: LocalTraining,
    server_optimizer: optax.GradientTransformation,
    client_chunk: int,
    sharding: NamedSharding | None,
    state: ServerState,
    cohort: Cohort,
    clients: Clients,
    data,
    frozen,
    hyper: Hyper,
    key: jax.Array,
) -> tuple[ServerState, RoundMetrics]:
    """`make_round`'s body, not jitted."""
    chosen, counts = by_size(cohort, clients)
    examples = counts.sum()
    weights = counts / jnp.maximum(examples, 1)
    round_key = jax.random.fold_in(key, state.round)

    def train_one(client, count):
        rows = Rows(clients.offsets[client], count)
        client_key = jax.random.fold_in(round_key, client)
        trained, loss = train_client(local, client_key, state.params, frozen, hyper, data, clients.indices, rows)
        return jax.tree.map(jnp.subtract, trained, state.params), loss

    def train_chunk(number, totals):
        first = number * client_chunk
        ids, rows, weight = (jax.lax.dynamic_slice(x, (first,), (client_chunk,)) for x in (chosen, counts, weights))
        if sharding is not None:
            ids, rows, weight = jax.lax.with_sharding_constraint((ids, rows, weight), sharding)
        deltas = jax.vmap(train_one)(ids, rows)
        # In full float32 everywhere: an accelerator's default would round the clients' changes to 10 bits.
        mean = functools.partial(jnp.tensordot, weight, axes=1, precision=jax.lax.Precision.HIGHEST)
        return jax.tree.map(lambda total, delta: total + mean(delta), totals, deltas)

    chosen, counts, weights = (pad_to_chunks(x, client_chunk) for x in (chosen, counts, weights))
    zeros = (jax.tree.map(jnp.zeros_like, state.params), jnp.zeros(()))
    chunks = -(-cohort.size // client_chunk)
    delta, loss = jax.lax.fori_loop(0, chunks, train_chunk, zeros)

    pseudo_gradient = jax.tree.map(jnp.negative, delta)
    updates, optimizer_state = server_optimizer.update(pseudo_gradient, state.optimizer_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return ServerState(state.round + 1, params, optimizer_state), RoundMetrics(loss, examples)


def by_size(cohort: Cohort, clients: Clients) -> tuple[jax.Array, jax.Array]:
    """The cohort's clients and their row counts, [M] each, largest first; those past `size` come last with count 0.

    Equal sizes are ordered by client number, so the result does not depend on the order in which a cohort is given.
    """
    present = jnp.arange(cohort.clients.shape[0]) < cohort.size
    chosen = jnp.where(present, cohort.clients, 0)
    counts = jnp.where(present, clients.offsets[chosen + 1] - clients.offsets[chosen], 0)
    order = jnp.lexsort((chosen, -counts, ~present))
    return chosen[order], counts[order]


def pad_to_chunks(rows: jax.Array, chunk: int) -> jax.Array:
    """[M] padded with zeros to whole chunks, so that no slice is shifted to fit."""
    return jnp.pad(rows, (0, -rows.shape[0] % chunk))


def everybody(clients: int) -> Cohort:
    """The cohort of full participation."""
    return Cohort(jnp.arange(clients, dtype=jnp.int32), jnp.asarray(clients, jnp.int32))


def draw_cohort(seed: int, round_number: int, clients: int, size: int) -> Cohort:
    """`size` of `clients` clients, drawn without replacement for this round; 0 asks for all of them.

    NumPy's generator draws without touching all clients, so a small cohort of a large population is cheap.
    """
    if size in (0, clients):
        return everybody(clients)
    rng = np.random.default_rng((seed, round_number))
    return Cohort(jnp.asarray(rng.choice(clients, size, replace=False), jnp.int32), jnp.asarray(size, jnp.int32))
