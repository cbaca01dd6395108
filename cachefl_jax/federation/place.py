"""Where arrays lie on a plan's devices, of all processes: a mesh clients x classes.

A cohort's clients are dealt to the groups of devices along `clients`, and what clients keep lies with them. Where a
group is of several devices, these share every array that has an axis of the classes: XLA adds what its collectives
need (the softmax's sums), and no device ever holds all keys. Everything else lies whole on each device.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from cachefl_jax.federation.plan import Plan, check_sharing
from cachefl_jax.federation.problem import Problem, ServerState

CLIENTS, CLASSES = "clients", "classes"


@functools.cache
def mesh_of(devices: int, class_devices: int) -> Mesh:
    """The first devices of all processes, [devices, class_devices]."""
    first = jax.devices()[: devices * class_devices]
    return jax.make_mesh((devices, class_devices), (CLIENTS, CLASSES), (AxisType.Auto,) * 2, devices=first)


def plan_mesh(plan: Plan) -> Mesh:
    """The plan's devices. Raises ValueError: they cannot share the classes."""
    check_sharing(plan)
    return mesh_of(plan.devices, plan.class_devices)


def whole(plan: Plan) -> NamedSharding:
    """On each of the plan's devices, all of it."""
    return NamedSharding(plan_mesh(plan), PartitionSpec())


def by_class(plan: Plan, leaf, lead: tuple = ()) -> NamedSharding:
    """A share of the classes on each device of a group, where the leaf has an axis of them; else all of it.

    An axis that is as long by chance may be taken for it: then the numbers are the same, and only lie elsewhere.

    Args:
        lead: what is known of the first axes."""
    axes = [*lead, *([None] * (leaf.ndim - len(lead)))]
    if plan.class_devices > 1 and leaf.ndim - len(lead) > 1 and plan.classes in leaf.shape[len(lead) :]:
        axes[leaf.shape.index(plan.classes, len(lead))] = CLASSES
    while axes and axes[-1] is None:
        axes.pop()
    return NamedSharding(plan_mesh(plan), PartitionSpec(*axes))


def state_shardings(state: ServerState, plan: Plan) -> ServerState:
    """Where each part of a state lies, by its shapes: what clients keep, [C, ...], is dealt to them."""
    found = jax.tree.map(functools.partial(by_class, plan), state._replace(clients=()))
    return found._replace(clients=jax.tree.map(lambda leaf: by_class(plan, leaf, (CLIENTS,)), state.clients))


def problem_shardings(problem: Problem, plan: Plan) -> Problem:
    """Where each part of a problem lies, by its shapes."""
    everywhere = whole(plan)
    rest = jax.tree.map(lambda _: everywhere, problem._replace(data=(), frozen=(), root=None))
    spread = functools.partial(jax.tree.map, functools.partial(by_class, plan))
    lead = (CLIENTS,) if plan.own_rows else ()
    data = jax.tree.map(lambda leaf: by_class(plan, leaf, lead), problem.data)
    return rest._replace(data=data, frozen=spread(problem.frozen), root=spread(problem.root))


def place(tree, plan: Plan):
    """A pytree of host or device arrays on the plan's devices; every process brings the same.

    The CPU devices of a process share one copy of what none of them gives away. What clients keep in a `ServerState`,
    [C, ...], is padded with zeros to a multiple of the groups."""
    if plan.all_devices == 1:
        return jax.device_put(tree)
    if isinstance(tree, ServerState):
        clients = jax.tree.map(fill, tree.clients, padded(tree, plan).clients)
        tree = tree._replace(clients=clients)
        return place_as(tree, state_shardings(tree, plan))
    if isinstance(tree, Problem):
        return place_as(tree, problem_shardings(tree, plan))
    return place_on(tree, whole(plan))


def fill(leaf, like):
    """The leaf with rows of zeros up to the shape of `like`."""
    return jnp.pad(leaf, [(0, like.shape[0] - leaf.shape[0]), *[(0, 0)] * (leaf.ndim - 1)])


def padded(state: ServerState, plan: Plan) -> ServerState:
    """The state's shapes on the plan's devices: what clients keep has rows up to a multiple of the groups."""

    def shape(leaf):
        return jax.ShapeDtypeStruct((leaf.shape[0] + -leaf.shape[0] % plan.devices, *leaf.shape[1:]), leaf.dtype)

    return state._replace(clients=jax.tree.map(shape, state.clients))


def unplaced(state: ServerState, clients: int, plan: Plan) -> ServerState:
    """The state as a checkpoint holds it, whatever the devices: all of it whole on each of them; on the host where
    none of them could hold it."""
    if plan.class_devices > 1:
        state = jax.device_get(state)
        return state._replace(clients=jax.tree.map(lambda leaf: leaf[:clients], state.clients))
    if plan.devices == 1 or not jax.tree.leaves(state.clients):
        return state
    cut = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf[:clients], tree), out_shardings=whole(plan))
    return state._replace(clients=cut(state.clients))


def place_by_class(tree, plan: Plan):
    """A pytree of host arrays as the first group of the plan's devices shares it; as it is where a group is one."""
    if plan.class_devices == 1:
        return tree
    group = plan._replace(devices=1)
    return place_as(tree, jax.tree.map(functools.partial(by_class, group), jax.tree.map(np.asarray, tree)))


def place_on(tree, spread: NamedSharding):
    """A pytree of host or device arrays on the sharding's devices."""
    return place_as(tree, jax.tree.map(lambda _: spread, tree))


def place_as(tree, spreads):
    """A pytree of host or device arrays, each by its own sharding."""
    return jax.tree.map(put, tree, spreads)


def put(leaf, spread: NamedSharding):
    leaf = np.float32(leaf) if isinstance(leaf, float) else leaf
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = put(jax.random.key_data(leaf), spread)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    leaf = shareable(leaf, spread)
    if spread.is_fully_addressable:
        return jax.device_put(leaf, spread)
    return jax.make_array_from_callback(leaf.shape, spread, lambda index: leaf[index])


def shareable(leaf, spread: NamedSharding):
    """The leaf on the host; for CPU devices aligned as JAX aligns its own memory: they take it without a copy each."""
    first = min(spread.addressable_devices, key=lambda device: device.id)
    return np.asarray(jax.device_put(leaf, first) if first.platform == "cpu" else leaf)
