"""Canaries: updates and gradients of our own choice, put into the real rounds, and what is seen of them.

A canary is the worst case that a bound on updates lets through: it is longer than any bound, and always has the same
direction. With it and without it, over many keys, the rounds themselves are those of the run: the same clients,
transforms, aggregation and noise. Nasr et al., arXiv 2302.07956.

Axis letters: C clients, R rounds, W canaries that are watched.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from cachefl_jax.federation import Clients, Federation, Linear, Problem, ServerState, Transform, stateless
from cachefl_jax.federation.primal.client import update_stages
from cachefl_jax.privacy.noise import local_noise

if TYPE_CHECKING:
    from cachefl_jax.simulation.build import Learner

BEYOND = 10.0  # a canary's length over the bound


class Run(NamedTuple):
    """What an audit takes of a run."""

    federation: Federation
    params: Any  # the server's at round 0
    problem: Problem  # of one version of the rows
    rounds: int  # R


class Audited(NamedTuple):
    """A run with canaries, and with somebody who watches."""

    run: Run
    enter: Callable[[Problem, jax.Array], Problem]  # (problem, whether the canaries are in) -> problem. Traced
    seen: Callable[[ServerState], jax.Array]  # [R, W] of the state after the run. Traced


class Canary(NamedTuple):
    """The traced numbers of a canary client's transform."""

    client: jax.Array  # [] its number
    length: jax.Array  # [] of its update; 0: as long as the update that it would have sent
    sign: jax.Array  # []
    direction: Any  # of length 1, in the shapes of an update


class Watched(NamedTuple):
    """What the server's optimizer keeps, and what is seen of each aggregate."""

    own: Any
    round: jax.Array  # []
    seen: jax.Array  # [R, W]


def run_of(learner: "Learner", rounds: int) -> Run:
    """What is audited of a run."""
    return one_version(Run(learner.federation, learner.params, learner.problem, rounds))


def one_version(run: Run) -> Run:
    """The run, all of whose rounds train on the first version of its rows."""
    local, clients = run.federation.local, run.problem.clients
    offsets = clients.offsets[: clients.count // local.views + 1]
    federation = run.federation._replace(local=local._replace(views=1), drift=False, sizes=())
    problem = run.problem._replace(clients=Clients(offsets, clients.indices[: offsets[-1]]), gram=None)
    return run._replace(federation=federation, problem=problem)


def last_client(clients: Clients) -> int:
    """The number of the last client that has rows."""
    return int(np.flatnonzero(np.diff(np.asarray(clients.offsets)))[-1])


def random_direction(shapes, seed: int):
    """Signs at random, all of one size, of length 1 together, float32."""
    draw, leaves = np.random.default_rng(seed), jax.tree.leaves(shapes)
    size = 1 / np.sqrt(sum(np.prod(leaf.shape) for leaf in leaves))
    signs = lambda leaf: (size * draw.choice((-1.0, 1.0), leaf.shape)).astype(np.float32)  # noqa: E731
    return jax.tree.map(signs, shapes)


def shapes_sent(run: Run):
    """An update before any transform."""
    return update_stages(run.federation, run.params, run.problem)[0][0]


def send_canary(update, sender):
    """The canary client's update, and everybody else's own."""
    told: Canary = sender.hyper
    length = told.sign * jnp.where(told.length > 0, told.length, optax.tree.norm(update))
    mine = sender.client == told.client
    return jax.tree.map(lambda leaf, way: jnp.where(mine, length * way, leaf), update, told.direction)


def send_unit(update, sender):
    """Of client number told.client and those after it: one number of an update, at the place that is its own."""
    told: Canary = sender.hyper
    flat, back = ravel_pytree(update)
    length = jnp.where(told.length > 0, told.length, optax.tree.norm(update))
    number = sender.client - told.client
    place = told.direction[jnp.maximum(number, 0)]
    unit = back(jnp.zeros_like(flat).at[place].set(length))
    return jax.tree.map(lambda leaf, own: jnp.where(number >= 0, own, leaf), update, unit)


def with_first(run: Run, transform: Transform, numbers: Any) -> Run:
    """The run with one transform more, before all others."""
    federation, parts = run.federation, run.problem.part_hyper
    parts = parts._replace(transforms=(numbers, *parts.transforms))
    federation = federation._replace(transforms=(transform, *federation.transforms))
    return run._replace(federation=federation, problem=run.problem._replace(part_hyper=parts))


def watch_aggregate(run: Run, look: Callable, told: Any, width: int = 1) -> tuple[Run, Callable]:
    """(the run whose server keeps what `look` sees of each aggregate, after all noise; where it keeps it).

    `look`: (aggregate, told) -> [W]."""

    def server(given):
        hyper, told = given
        own = run.federation.server(hyper)

        def init(params):
            return Watched(own.init(params), jnp.int32(0), jnp.zeros((run.rounds, width)))

        def update(gradient, state: Watched, params=None):
            step, after = own.update(gradient, state.own, params)
            row = look(jax.tree.map(jnp.negative, gradient), told)
            return step, Watched(after, state.round + 1, state.seen.at[state.round].set(row))

        return optax.GradientTransformation(init, update)

    problem = run.problem._replace(server=(run.problem.server, told))
    watched = run._replace(federation=run.federation._replace(server=server), problem=problem)
    return watched, lambda state: state.optimizer_state.seen


def watch_update(run: Run, direction: Any, client: int) -> tuple[Run, Callable]:
    """(the run in which a client's own update is seen along a direction, after noise of its own; where it is kept)."""

    def look(update, seen, sender):
        return update, seen.at[sender.round].set(optax.tree.vdot(sender.hyper, update))

    transforms, numbers = run.federation.transforms, run.problem.part_hyper.transforms
    place = transforms.index(local_noise) + 1 if local_noise in transforms else len(transforms)
    watching = Transform(look, state=lambda update: jnp.zeros(run.rounds))
    transforms = (*transforms[:place], watching, *transforms[place:])
    parts = run.problem.part_hyper._replace(transforms=(*numbers[:place], direction, *numbers[place:]))
    run = run._replace(
        federation=run.federation._replace(transforms=transforms), problem=run.problem._replace(part_hyper=parts)
    )
    return run, lambda state: state.clients[1][place][client][:, None]


def in_params(direction, params):
    """A direction of an update with zeros for the leaves that stay at the clients."""
    nothing = lambda leaf: leaf is None  # noqa: E731
    return jax.tree.map(
        lambda own, leaf: np.zeros_like(leaf) if own is None else own, direction, params, is_leaf=nothing
    )


def canary_client(run: Run, length: float, seed: int, out: float | None = None, own: bool = False) -> Audited:
    """The last client as a canary: in, or absent.

    Args:
        run: to be audited.
        length: of the canary's update; 0: as long as the update that the client would have sent.
        seed: of its direction.
        out: what its update is multiplied with when it is out; None: it is absent then.
        own: its own update is watched, not the aggregate.
    """
    client, direction = last_client(run.problem.clients), random_direction(shapes_sent(run), seed)
    numbers = Canary(np.int32(client), np.float32(length), np.float32(1), direction)
    run = with_first(run, stateless(send_canary), numbers)
    if own:
        run, seen = watch_update(run, direction, client)
    else:
        look = lambda aggregate, way: optax.tree.vdot(way, aggregate)[None]  # noqa: E731
        run, seen = watch_aggregate(run, look, in_params(direction, run.params))

    def enter(problem: Problem, inside: jax.Array) -> Problem:
        if out is None:
            return problem._replace(clients=without(problem.clients, client, inside))
        (first, *others), parts = problem.part_hyper.transforms, problem.part_hyper
        first = first._replace(sign=jnp.where(inside, 1.0, out))
        return problem._replace(part_hyper=parts._replace(transforms=(first, *others)))

    return Audited(run, enter, seen)


def without(clients: Clients, client: int, inside: jax.Array) -> Clients:
    """The clients, the last of which with rows has them only if it is inside. Traced."""
    offsets = jnp.asarray(clients.offsets)
    gone = (jnp.arange(len(offsets)) > client) & ~inside
    return clients._replace(offsets=jnp.where(gone, offsets[client], offsets))


def canary_clients(run: Run, length: float, most: int, rows: int, seed: int) -> Audited:
    """Canaries beside the run's clients, each with one number of the update for itself, for an audit in one run.

    Args:
        run: whose clients all come, or each by a coin of its own.
        length: as of `canary_client`.
        most: canaries, at most; there are no more than numbers in an update.
        rows: of each.
        seed: of their places.

    `Audited.enter` takes [W] bools.
    """
    size = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes_sent(run)))
    places = np.random.default_rng(seed).choice(size, min(most, size), replace=False).astype(np.int32)
    clients, federation = run.problem.clients, run.federation
    count, last = clients.count, len(clients.indices)
    indices = np.resize(np.asarray(clients.indices), last + len(places) * rows)
    more = np.full(len(places), last, np.int32)  # without rows until they enter
    cohort = federation.cohort and federation.cohort * (count + len(places)) / count  # as likely to come as before
    run = run._replace(
        federation=federation._replace(cohort=cohort),
        problem=run.problem._replace(clients=Clients(np.append(clients.offsets, more), indices)),
    )
    run = with_first(run, stateless(send_unit), Canary(np.int32(count), np.float32(length), np.float32(1), places))
    look = lambda aggregate, places: ravel_pytree(aggregate)[0][places]  # noqa: E731
    run, seen = watch_aggregate(run, look, places, len(places))

    def enter(problem: Problem, inside: jax.Array) -> Problem:
        ends = last + rows * jnp.cumsum(inside, dtype=jnp.int32)
        offsets = jnp.concatenate([problem.clients.offsets[: count + 1], ends])
        return problem._replace(clients=problem.clients._replace(offsets=offsets))

    return Audited(run, enter, seen)


class Marked(NamedTuple):
    """Rows of which one is a canary."""

    rows: Any
    mark: jax.Array  # [n] 0 of all others; of the canary 1 where it counts, else -1


def canary_example(run: Run, seed: int) -> Audited:
    """A row of the last client as a canary: its gradient has one direction always, and is longer than any bound; or it
    is zero, which is what a row that does not count leaves. The client's own update is watched."""
    local, problem, client = run.federation.local, run.problem, last_client(run.problem.clients)
    row = int(problem.clients.indices[problem.clients.offsets[client]])
    if local.linear is None:
        slopes = random_direction(run.params, seed)
        direction = slopes
    else:  # a gradient is the product of slopes and feature
        (leaf,), structure = jax.tree.flatten(run.params)
        slopes = random_direction(jax.ShapeDtypeStruct(leaf.shape[:-1], np.float32), seed)
        feature = np.asarray(local.linear.features(jax.tree.map(lambda leaf: leaf[row], problem.data)))
        direction = np.multiply.outer(slopes, feature / np.linalg.norm(feature)).astype(np.float32)
        direction = jax.tree.unflatten(structure, [direction])
    length = BEYOND * problem.part_hyper.examples.clip_norm

    def marked(losses: jax.Array, canary: jax.Array, batch: Marked) -> jax.Array:
        return jnp.where(batch.mark == 0, losses, jnp.where(batch.mark > 0, length * canary, 0.0))

    def loss(params, frozen, batch: Marked):
        canary = optax.tree.vdot(frozen[1], params)
        return marked(local.loss(params, frozen[0], batch.rows), canary, batch)

    def loss_of_scores(scores, frozen, batch: Marked):
        canary = scores.reshape(len(scores), -1) @ frozen[1].reshape(-1)
        return marked(local.linear.loss(scores, frozen[0], batch.rows), canary, batch)

    linear = local.linear and Linear(lambda batch: local.linear.features(batch.rows), loss_of_scores)
    federation = run.federation._replace(local=local._replace(loss=loss, linear=linear))
    marks = np.zeros(len(jax.tree.leaves(problem.data)[0]), np.float32)
    problem = problem._replace(data=Marked(problem.data, marks), frozen=(problem.frozen, slopes))
    run = run._replace(federation=federation, problem=problem)
    run, seen = watch_update(run, jax.tree.map(np.negative, direction), client)

    def enter(problem: Problem, inside: jax.Array) -> Problem:
        mark = jnp.asarray(problem.data.mark).at[row].set(jnp.where(inside, 1.0, -1.0))
        return problem._replace(data=problem.data._replace(mark=mark))

    return Audited(run, enter, seen)
