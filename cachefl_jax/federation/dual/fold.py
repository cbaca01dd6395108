"""A cohort's work on coefficients, block by block, and its weighted sum (see `dual`)."""

import jax
import jax.numpy as jnp

from cachefl_jax.federation.dual.block import Block, Task, cut_block
from cachefl_jax.federation.dual.gram import capacity_of
from cachefl_jax.federation.dual.train import Trained, train_block
from cachefl_jax.federation.folded import Folded, Members, Spread, changes_are_updates
from cachefl_jax.federation.local import step_count
from cachefl_jax.federation.parts import Federation
from cachefl_jax.federation.plan import Plan
from cachefl_jax.federation.primal import fold_scan
from cachefl_jax.federation.primal.client import sender
from cachefl_jax.federation.work import Client, Start


def fold_blocks(federation: Federation, plan: Plan, start: Start, members: Members) -> Folded:
    """All members, as `primal.fold_scan` gives them. `plan.client_chunk` clients are side by side, and
    `plan.block_rows` rows are at least those of the largest client that trains on coefficients. Traced."""
    local, ((leaf,), structure) = federation.local, jax.tree.flatten(start.params)
    server = leaf.reshape(-1, leaf.shape[-1])
    width, large = server.shape[1], members.counts > server.shape[1]
    own = members._replace(counts=jnp.where(large, 0, members.counts))
    task = make_task(federation, plan, start, own, leaf.shape)
    factors, extra = client_factors(federation, start, own)
    first = large.sum()
    present = first + (own.counts > 0).sum()
    spread = Spread(jnp.zeros(()), jnp.zeros(()), server * 0) if federation.drift else None
    zeros = (jnp.zeros_like(server), jnp.zeros(()), spread)

    def one_block(carry):
        first, (total, loss, spread) = carry
        block = cut_block(task, plan.block_rows, server, first)
        after = jnp.minimum((task.ends <= block.begin + plan.block_rows).sum(), present)
        trained = train_block(task, block, first, after)
        among = (jnp.arange(len(own.counts)) >= first) & (jnp.arange(len(own.counts)) < after)
        weights = jnp.where(among, own.weights, 0)
        scales = factors * transform_factors(federation, start, own, trained.lengths * factors)
        total = total + weighted_change(task, block, trained, weights * scales, server)
        if spread is not None:
            lengths, change = weights * trained.lengths, spread.change
            if not changes_are_updates(federation):
                change = change + weighted_change(task, block, trained, weights, server)
            spread = Spread(spread.lengths + lengths.sum(), spread.squares + (lengths**2).sum(), change)
        loss = loss + jnp.where(among, own.shares * trained.losses, 0).sum()
        return after, (total, loss, spread)

    _, (total, loss, spread) = jax.lax.while_loop(lambda carry: carry[0] < present, one_block, (first, zeros))
    tree = lambda array: jax.tree.unflatten(structure, [array.reshape(leaf.shape)])  # noqa: E731
    if spread is not None:
        spread = spread._replace(change=() if changes_are_updates(federation) else tree(spread.change))
    total = tree(total) if extra is None else (tree(total), (jnp.where(own.counts > 0, own.weights, 0) * extra).sum())
    folded = Folded(total, loss, spread, members.states)
    if local.capacity <= width:
        return folded
    others = fold_scan(federation, start, members._replace(counts=jnp.where(large, members.counts, 0)))
    return jax.tree.map(jnp.add, folded._replace(states=()), others._replace(states=()))._replace(states=members.states)


def make_task(federation: Federation, plan: Plan, start: Start, members: Members, shape: tuple[int, ...]) -> Task:
    """What the blocks share, for params of this shape."""
    local = federation.local
    capacity = -(-capacity_of(local, shape[-1]) // local.batch_size) * local.batch_size
    measured = federation.drift or bool(federation.transforms)
    sized = local._replace(capacity=capacity)
    return Task(sized, plan.client_chunk, shape[:-1], measured, start, members, jnp.cumsum(members.counts))


def weighted_change(task: Task, block: Block, trained: Trained, weights: jax.Array, server: jax.Array) -> jax.Array:
    """sum over the block's clients of weight (W_c - W_0), [J, D]; weights [M], 0 for all others."""
    inside = block.begin + jnp.arange(len(block.owner)) < task.ends[-1]
    of_row = jnp.where(inside, weights[block.owner] * trained.scale, 0)[:, None]
    # Whichever there are fewer of is weighed.
    fewer = len(server) < server.shape[1]
    rows, features = (trained.rows * of_row, block.features) if fewer else (trained.rows, block.features * of_row)
    change = jax.lax.dot_general(rows, features, (((0,), (0,)), ((), ())))
    pull = jnp.where(weights == 0, 0, weights * (trained.decay - 1)).sum()
    return change + pull * server


def client_factors(federation: Federation, start: Start, members: Members) -> tuple[jax.Array, jax.Array | None]:
    """(factors [M] of an algorithm like FedNova, what its updates have besides [M]); (1, None) for FedAvg."""
    scale = federation.local.work.scale
    if scale is None:
        return jnp.ones(()), None
    steps = step_count(federation.local, members.counts)
    return jax.vmap(lambda count: scale(federation.local, count, start.problem.hyper))(steps)


def transform_factors(federation: Federation, start: Start, members: Members, lengths: jax.Array) -> jax.Array:
    """What the chain of transforms multiplies each update of these lengths [M] with, [M]; 1 without any."""
    if not federation.transforms:
        return jnp.ones(())

    def one(number, weight, length):
        product = jnp.ones(())
        for place, transform in enumerate(federation.transforms):
            who = sender(start, Client(number, None, (), weight), place)
            product = product * transform.factor(length * jnp.abs(product), who)
        return product

    return jax.vmap(one)(members.clients, members.weights, lengths)
