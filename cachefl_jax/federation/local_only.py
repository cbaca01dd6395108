"""Clients that never hear from each other: each trains on from its own params, round after round.

What a federation is compared with. A client draws the very batches that it would draw in the federation; only the
averaging is missing. One client that holds everybody's rows is centralised training.

Many clients and many rounds are one call, so that the host costs nothing. Memory: the params of a call's clients, whose
number the caller chooses, and what one group of lanes needs to train.

Axis letters: M clients of a call, L lanes.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from cachefl_jax.federation.checks import ClientCheck, all_finite, known
from cachefl_jax.federation.evaluate import score_rows
from cachefl_jax.federation.local import LocalTraining, step_count, train_client
from cachefl_jax.federation.place import place_on
from cachefl_jax.federation.primal.client import counted
from cachefl_jax.federation.primal.local_rounds import train_known
from cachefl_jax.federation.primal.ranges import step_ranges
from cachefl_jax.federation.problem import Clients, Problem, in_view
from cachefl_jax.federation.work import Client, Params, Rows, Start
from cachefl_jax.precision import run_precision

NOBODY = -1  # fills a call up; holds no rows


@functools.lru_cache(maxsize=16)  # points of a study that train alike are compiled once
def make_local_only(local: LocalTraining, lanes: int, devices: int = 1, rows: tuple[int, ...] = ()) -> Callable:
    """The jitted training: (params [M, ...], clients [M], first, count, problem) -> (params [M, ...], finite [M]).

    Trains the rounds `first` to `first + count` (not included); what it gives for the first ones, it goes on from. The
    params' buffers are donated. `finite` says of each client whether its losses and its params are. The clients of each
    device come in order of size, the largest first, and NOBODY last.

    Args:
        local: what a client does in a round.
        lanes: L clients side by side on a device; 1: one after another, which a CPU's caches reward. M is a multiple of
            lanes x devices.
        devices: the first so many of this process, to which the clients are dealt; the problem lies on all of them
            (`place_locally`).
        rows: [M] of the clients of every call, in their order, where these are known, M is `lanes` and `devices` is 1:
            no bound of a client's loops is then read by the host. (): any clients.

    The result raises a ValueError for clients whose rows are not their own or too many (`checks.check_clients`), and
    for clients in another order or of other rows.
    """
    ranges = step_ranges(local, compact=lanes > 1)

    def train(params: Params, clients, first, count, problem: Problem):
        rounds = (first, first + count)
        if rows:
            with run_precision():
                return train_known(local, np.asarray(rows), (params, clients), rounds, problem)
        largest = sizes_of(clients, in_view(problem.clients, local.views, 0)).reshape(-1, lanes).max(axis=1)

        def at_group(number, carry, program):
            cut = lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, number * lanes, lanes)  # noqa: E731
            put = functools.partial(jax.lax.dynamic_update_slice_in_dim, start_index=number * lanes, axis=0)
            own = jax.tree.map(cut, carry[0])
            return jax.tree.map(put, carry, train_group(program, largest[number], own, cut(clients), rounds, problem))

        carry, group = (params, jnp.ones(clients.shape, bool)), jnp.zeros((), jnp.int32)
        steps = step_count(local, largest)
        with run_precision():
            for *program, least in ranges:
                after = (steps >= least).sum(dtype=jnp.int32)
                carry = jax.lax.fori_loop(group, after, functools.partial(at_group, program=program), carry)
                group = after
        return carry

    split, whole = PartitionSpec("clients"), PartitionSpec()
    spread = over_devices(train, devices, (split, split, whole, whole, whole))
    compiled, check_once = jax.jit(spread, donate_argnums=0), ClientCheck(local)

    def checked(params: Params, clients, first, count, problem: Problem):
        check_once(problem.clients, problem.data)
        check_order(clients, problem.clients, devices, rows)
        return compiled(params, clients, first, count, problem)

    checked.lower = compiled.lower
    return checked


def train_group(program: tuple, most, params: Params, clients, rounds: tuple, problem: Problem):
    """`train_one` of L clients [L] side by side, with params [L, ...]; of one client without `jax.vmap`. Traced.

    Clients that count do so one after another: `jax.vmap` would go over the rounds' loop outside of its float64."""
    train = functools.partial(train_one, program, most)
    if program[1].work.alone is not None:
        return jax.lax.map(lambda own: train(*own, rounds, problem), (params, clients))
    if len(clients) > 1:
        return jax.vmap(train, (0, 0, None, None))(params, clients, rounds, problem)
    params, finite = train(jax.tree.map(lambda leaf: leaf[0], params), clients[0], rounds, problem)
    return jax.tree.map(lambda leaf: leaf[None], params), finite[None]


def train_one(program: tuple, most, params: Params, client, rounds: tuple, problem: Problem):
    """(the params of one client, or NOBODY, after its rounds; whether they and its losses are finite). Traced.

    Args:
        program: of `step_ranges`; its capacity holds this client's rows.
        most: [] at least this client's rows; the same for all that train side by side.
        params: the client's own.
        client: [] its number.
        rounds: the first one, and the one after the last.
        problem: the federation's arrays.
    """
    (layout, local), number = program, jnp.maximum(client, 0)

    def one_round(at, carry):
        params, finite = carry
        clients = in_view(problem.clients, local.views, at)
        begin = clients.offsets[number]
        rows = Rows(begin, jnp.where(client == NOBODY, 0, clients.offsets[number + 1] - begin), most)
        start = Start(params, (), problem._replace(clients=clients), at, jax.random.fold_in(problem.key, at))
        if local.work.alone is not None:
            with local.work.arithmetic():
                return local.work.alone(counted(local, start, rows), start), finite
        params, loss = train_client(local, start, Client(number, rows, ()), layout)
        return params, finite & jnp.isfinite(loss)

    params, finite = jax.lax.fori_loop(*rounds, one_round, (params, jnp.asarray(True)))
    return params, finite & all_finite(params)


def check_order(numbers, clients: Clients, devices: int, rows: tuple[int, ...] = ()) -> None:
    """Whether each device's clients come largest first: a program for small clients would cut a large one's rows; and
    whether they have these rows, where any are due.

    Raises ValueError: they do not."""
    if not (known(numbers) and known(clients.offsets)):
        return
    numbers, offsets = np.asarray(numbers), np.asarray(clients.offsets)
    sizes = np.where(numbers == NOBODY, 0, offsets[numbers + 1] - offsets[numbers])
    if (np.diff(sizes.reshape(devices, -1)) > 0).any():
        raise ValueError("clients must come in order of size, the largest first, NOBODY last (split_by_size)")
    if rows and tuple(sizes.tolist()) != rows:
        raise ValueError("clients must have the rows that make_local_only was given")


def sizes_of(numbers: jax.Array, clients: Clients) -> jax.Array:
    """Rows of these clients, 0 for NOBODY. Traced."""
    held = clients.offsets[jnp.maximum(numbers, 0) + 1] - clients.offsets[jnp.maximum(numbers, 0)]
    return jnp.where(numbers == NOBODY, 0, held)


@functools.lru_cache(maxsize=16)
def make_scores_of_each(logits: Callable, devices: int = 1, each_row: bool = False) -> Callable:
    """The jitted evaluation: (params [M, ...], frozen, splits) -> a list of `score_rows` of each split's rows, every
    leaf with a leading [M]. Clients one after another."""

    def scores(params: Params, frozen, splits):
        return jax.lax.map(lambda own: [score_rows(logits, each_row, own, frozen, rows) for rows in splits], params)

    return jax.jit(over_devices(scores, devices, (PartitionSpec("clients"), PartitionSpec(), PartitionSpec())))


def start_all(params: Params, count: int, devices: int = 1) -> Params:
    """`count` copies of the params, [M, ...], dealt to the devices; placed as training gives them back, or its second
    call would compile anew."""
    return repeater(count, devices)(params)


@functools.cache
def repeater(count: int, devices: int) -> Callable:
    spread = NamedSharding(local_mesh(devices), PartitionSpec("clients"))
    if devices == 1:
        spread = SingleDeviceSharding(jax.local_devices()[0])
    repeat = lambda leaf: jnp.broadcast_to(leaf, (count, *jnp.shape(leaf)))  # noqa: E731
    return jax.jit(lambda params: jax.tree.map(repeat, params), out_shardings=spread)


def over_devices(body: Callable, devices: int, specs: tuple) -> Callable:
    """`body`, each device with its own share of what is split, for itself."""
    if devices == 1:
        return body
    # As in `round.fold_on_devices`: every device differentiates for itself.
    return jax.shard_map(
        body, mesh=local_mesh(devices), in_specs=specs, out_specs=PartitionSpec("clients"), check_vma=False
    )


@functools.cache
def local_mesh(devices: int) -> Mesh:
    """The first `devices` devices of this process as an axis `clients`: the other processes are not needed."""
    return jax.make_mesh((devices,), ("clients",), (AxisType.Auto,), devices=jax.local_devices()[:devices])


def place_locally(tree, devices: int):
    """A pytree of arrays whole on each of this process's first devices."""
    if devices == 1:
        return jax.device_put(tree)
    return place_on(tree, NamedSharding(local_mesh(devices), PartitionSpec()))


def seen_locally(tree, devices: int):
    """Placed arrays, of which each of some devices of all processes has the whole, as `place_locally` would give them;
    nothing is copied. None where one of this process's first devices has none of it."""
    wanted = jax.local_devices()[:devices]

    def seen(leaf: jax.Array) -> jax.Array | None:
        parts = {part.device: part.data for part in leaf.addressable_shards}
        if not leaf.is_fully_replicated or not parts.keys() >= set(wanted):
            return None
        if devices == 1:
            return parts[wanted[0]]
        spread = NamedSharding(local_mesh(devices), PartitionSpec())
        return jax.make_array_from_single_device_arrays(leaf.shape, spread, [parts[device] for device in wanted])

    leaves, structure = jax.tree.flatten(tree)
    found = [seen(leaf) for leaf in leaves]
    return None if any(leaf is None for leaf in found) else jax.tree.unflatten(structure, found)


def split_by_size(sizes: np.ndarray, most: int, multiple: int) -> list[np.ndarray]:
    """All client numbers, the largest client first, cut into calls of one length: a multiple of `multiple` and, as far
    as that allows, at most `most`. The last is filled up with NOBODY."""
    order = np.argsort(-sizes, kind="stable").astype(np.int32)
    calls = -(-len(order) // max(most // multiple * multiple, multiple))
    length = -(-len(order) // (calls * multiple)) * multiple
    return [
        np.pad(part, (0, length - len(part)), constant_values=NOBODY)
        for part in np.split(order, range(length, len(order), length))
    ]
