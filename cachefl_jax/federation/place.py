"""Where arrays lie: whole on each of a plan's devices, of all processes; what clients keep, dealt to them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from cachefl_jax.federation.plan import Plan
from cachefl_jax.federation.problem import ServerState


@functools.cache
def client_mesh(devices: int) -> Mesh:
    """The first `devices` devices, of all processes, as an axis `clients`."""
    return jax.make_mesh((devices,), ("clients",), (AxisType.Auto,), devices=jax.devices()[:devices])


def whole(devices: int) -> NamedSharding:
    """On each of the first devices, all of it."""
    return NamedSharding(client_mesh(devices), PartitionSpec())


def dealt(devices: int) -> NamedSharding:
    """What the clients keep: a share of the rows on each of the first devices."""
    return NamedSharding(client_mesh(devices), PartitionSpec("clients"))


def place(tree, plan: Plan):
    """A pytree of host or device arrays on each of the plan's devices; every process brings the same.

    The CPU devices of a process share one copy of what none of them gives away. What clients keep in a `ServerState`,
    [C, ...], is dealt to the devices, padded with zeros.
    """
    if plan.devices == 1:
        return jax.device_put(tree)
    if not isinstance(tree, ServerState):
        return place_on(tree, whole(plan.devices))
    fill = lambda leaf, like: jnp.pad(leaf, [(0, like.shape[0] - leaf.shape[0]), *[(0, 0)] * (leaf.ndim - 1)])  # noqa: E731
    rest = place_on(tree._replace(clients=()), whole(plan.devices))
    clients = jax.tree.map(fill, tree.clients, padded(tree, plan).clients)
    return rest._replace(clients=place_on(clients, dealt(plan.devices)))


def padded(state: ServerState, plan: Plan) -> ServerState:
    """The state's shapes on the plan's devices: what clients keep has rows up to a multiple of them."""

    def shape(leaf):
        return jax.ShapeDtypeStruct((leaf.shape[0] + -leaf.shape[0] % plan.devices, *leaf.shape[1:]), leaf.dtype)

    return state._replace(clients=jax.tree.map(shape, state.clients))


def unplaced(state: ServerState, clients: int, plan: Plan) -> ServerState:
    """The state as a checkpoint holds it, whatever the devices: all of it whole on each of them."""
    if plan.devices == 1 or not jax.tree.leaves(state.clients):
        return state
    cut = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf[:clients], tree), out_shardings=whole(plan.devices))
    return state._replace(clients=cut(state.clients))


def place_on(tree, spread: NamedSharding):
    """A pytree of host or device arrays on the sharding's devices."""

    def put(leaf):
        leaf = np.float32(leaf) if isinstance(leaf, float) else leaf
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
