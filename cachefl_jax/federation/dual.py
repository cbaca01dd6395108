"""Local training on coefficients: exact, with no copy of the parameters for any client.

Where a loss meets its parameters W [J, D] only in scores f W^T (`local.Linear`), a step's gradient is a combination of
the client's own features. Under SGD, with momentum, weight decay, a proximal term and clipping, a client's parameters
therefore never leave

    W_c = kept_c W_0 + (scale U_c)^T F_c      W_0 the server's [J, D], F_c its features [n_c, D], U_c [n_c, J]

and kept, scale and U are trained instead (`cachefl_jax.federation.coefficients`). The scores of all rows with the
server's parameters are one big product per block of clients, and so is the weighted sum of what the clients send. In
between, D occurs in no product: G_c = F_c F_c^T, the Gram matrices, are computed once a run.

Memory: a block holds its features and 2 x R x J numbers (4 with momentum); nothing of size clients x J x D exists. A
client with more rows than D would be dearer this way, and trains on the parameters themselves.

Axis letters: C clients of the population, M of the cohort, L lanes, R rows of a block, J scores (N K for a cache).
"""

import jax
import jax.numpy as jnp

from cachefl_jax.federation import coefficients, primal
from cachefl_jax.federation.gram import capacity_of
from cachefl_jax.federation.lanes import Block
from cachefl_jax.federation.local import LocalTraining, Params
from cachefl_jax.federation.problem import Problem

FEW_CLIENTS = 512  # of so many, looking at each one's end is quicker than a binary search, a loop of small kernels


def sum_changes(
    local: LocalTraining,
    lanes: int,
    block_rows: int,
    params: Params,
    chosen: jax.Array,
    counts: jax.Array,
    weights: jax.Array,
    problem: Problem,
    round_key: jax.Array,
) -> tuple[Params, jax.Array]:
    """The clients' weighted changes and losses, added up; arguments and result as `primal.sum_chunks` has them.

    Args:
        lanes: clients side by side.
        block_rows: R, at least the rows of the largest client that trains on coefficients.
    """
    (leaf,), shape = jax.tree.flatten(params)
    start = leaf.reshape(-1, leaf.shape[-1])
    scores, width = start.shape
    total, loss = jax.tree.map(jnp.zeros_like, (start, weights[0]))
    pull = jnp.zeros_like(loss)  # by which the clients' kept has moved from 1
    if local.capacity > width:
        large = jnp.where(counts > width, counts, 0)
        change, loss = primal.sum_scan(local, params, chosen, large, weights, problem, round_key)
        total = jax.tree.leaves(change)[0].reshape(start.shape)
    first = (counts > width).sum()
    counts = jnp.where(counts > width, 0, counts)
    ends, present = jnp.cumsum(counts), first + (counts > 0).sum()
    train = coefficients.make_training(local, lanes, leaf.shape[:-1], capacity_of(local, width))

    def one_block(carry):
        first, total, pull, loss = carry
        block = cut_block(local, block_rows, start, first, chosen, counts, ends, problem)
        after = jnp.minimum((ends <= block.begin + block_rows).sum(), present)
        kept, scale, trained, losses = train(block, first, after, chosen, counts, ends, problem, round_key)
        inside = block.begin + jnp.arange(block_rows) < ends[after - 1]
        of_row = jnp.where(inside, weights[block.owner] * scale, 0)
        # Whichever there are fewer of is weighed.
        features, of_row = block.features, of_row[:, None]
        trained, features = (trained * of_row, features) if scores < width else (trained, features * of_row)
        change = jax.lax.dot_general(trained, features, (((0,), (0,)), ((), ())))
        taking_part = (jnp.arange(len(counts)) >= first) & (jnp.arange(len(counts)) < after)
        pull = pull + jnp.where(taking_part, weights * (kept - 1), 0).sum()
        loss = loss + jnp.where(taking_part, weights * losses, 0).sum()
        return after, total + change, pull, loss

    _, total, pull, loss = jax.lax.while_loop(lambda carry: carry[0] < present, one_block, (first, total, pull, loss))
    total = total + pull * start
    return jax.tree.unflatten(shape, [total.reshape(leaf.shape)]), loss


def cut_block(local: LocalTraining, block_rows: int, start, first, chosen, counts, ends, problem: Problem) -> Block:
    """The rows of the sorted cohort from client `first` on, as many as a block holds, and their scores."""
    clients = problem.clients
    begin = ends[first] - counts[first]
    flat = begin + jnp.arange(block_rows)
    search = "compare_all" if len(ends) <= FEW_CLIENTS else "scan"
    owner = jnp.minimum(jnp.searchsorted(ends, flat, side="right", method=search), len(ends) - 1)
    position = clients.offsets[chosen[owner]] + flat - (ends[owner] - counts[owner])
    where = clients.indices.at[position].get(mode="clip")
    # Without it XLA works the row's number out anew for each of its D features.
    owner, position, where = jax.lax.optimization_barrier((owner, position, where))
    features = local.linear.features(problem.data)[where]
    return Block(begin, owner, position, where, features, features @ start.T, jnp.vdot(start, start))
