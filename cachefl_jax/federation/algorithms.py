"""Algorithms that clients may follow: FedAvg (arXiv 1602.05629), SCAFFOLD, FedNova, Ditto. FedProx is
`LocalTraining.proximal`; `personal` lets clients keep leaves of the params for themselves under any of the others."""

import jax
import jax.numpy as jnp

from cachefl_jax.federation.local import LocalTraining, LoopLayout, train_client
from cachefl_jax.federation.work import Client, ClientWork, Finished, Params, Start, fedavg

__all__ = ["ditto", "fedavg", "fednova", "scaffold"]


def zeros(params: Params) -> Params:
    """A control variate at round 0."""
    return jax.tree.map(jnp.zeros_like, params)


def add_control(gradient: Params, shared: Params, state: Params) -> Params:
    """g - c_i + c."""
    return jax.tree.map(lambda g, c, own: g - own + c, gradient, shared, state)


def control_update(change: Params, done: Finished) -> tuple[tuple[Params, Params], Params]:
    """((dy, dc), c_i+) with c_i+ = c_i - c - dy / (K eta): option II of the paper, for K steps of plain SGD."""
    scale = 1 / jnp.maximum(done.steps * done.hyper.learning_rate, jnp.finfo(jnp.float32).tiny)
    moved = jax.tree.map(lambda c, dy: -c - scale * dy, done.shared, change)
    moved = jax.tree.map(lambda dc: jnp.where(done.steps > 0, dc, 0), moved)
    return (change, moved), jax.tree.map(jnp.add, done.state, moved)


def apply_control(aggregate: tuple[Params, Params], start: Start, share: jax.Array) -> tuple[Params, Params]:
    """(dx, c + |S| / N dc), so that c stays the mean of all c_i, by the weights of the aggregation.

    With |S| / N where clients count by rows, c would drift from it in every partial cohort, and training would rest
    where no mean gradient is zero.
    """
    change, moved = aggregate
    return change, jax.tree.map(lambda c, dc: c + share * dc, start.shared, moved)


def normalising(local, steps: jax.Array, hyper) -> tuple[jax.Array, jax.Array]:
    """(1 / |a|, |a|) of a client of so many steps, []; 0 steps have (0, 0).

    a are the weights of a round's gradients in its change. SGD, its momentum and the proximal term are linear, so |a|
    is what the client's own optimizer does to one number whose gradient is always 1.
    """
    optimizer, start = local.optimizer(hyper._replace(weight_decay=0.0)), jnp.zeros(())

    def step(_, carry):
        number, state = carry
        gradient = 1.0 + (hyper.proximal * number if local.proximal else 0.0)
        change, state = optimizer.update(jnp.asarray(gradient, jnp.float32), state, number)
        return number + change, state

    number, _ = jax.lax.fori_loop(0, steps, step, (start, optimizer.init(start)))
    length = -number / hyper.learning_rate
    usable = (length > 0) & jnp.isfinite(length)
    return jnp.where(usable, 1 / jnp.where(usable, length, 1), 0), jnp.where(usable, length, 0)


def apply_normalised(aggregate: tuple[Params, jax.Array], start: Start, share: jax.Array) -> tuple[Params, tuple[()]]:
    """The mean normalised change, times the mean length tau_eff."""
    change, length = aggregate
    return jax.tree.map(lambda d: length * d, change), start.shared


def own_start(params: Params) -> Params:
    """A client's own model at round 0."""
    return params


def own_model(params: Params, state: Params) -> Params:
    """Ditto's v_c."""
    del params
    return state


def train_beside(local: LocalTraining, start: Start, client: Client, trained: Params, layout: LoopLayout) -> Params:
    """v_c after a round: as many steps on the same batches as the server's model has taken, from v_c on, each by the
    gradient of F_c(v) + lambda / 2 |v - w|^2, where w is what the server has sent."""
    del trained
    hyper = start.problem.hyper
    pulled = start._replace(problem=start.problem._replace(hyper=hyper._replace(proximal=hyper.ditto)))
    plain = local._replace(proximal=True, work=fedavg)
    return train_client(plain, pulled, client._replace(params=client.state, state=()), layout)[0]


# Karimireddy et al., arXiv 1910.06378, Algorithm 1: gradients are corrected for the client's drift, which its control
# variate c_i and the server's c estimate.
scaffold = ClientWork(shared=zeros, state=zeros, correct=add_control, update=control_update, apply=apply_control)

# Wang et al., arXiv 2007.07481, eq. 11-15: a client's change counts by its direction, not by how many steps it took.
fednova = ClientWork(scale=normalising, apply=apply_normalised)

# Li et al., arXiv 2012.04221, Algorithm 1 with FedAvg as its global solver: a client trains the server's model as ever,
# and beside it a model of its own, which never leaves it.
ditto = ClientWork(state=own_start, keep=train_beside, model=own_model)
