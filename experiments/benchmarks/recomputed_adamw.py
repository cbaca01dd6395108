"""Rounds of AdamW with no params, moments or gradients of any client in memory: a trial, no part of the package.

A cache's gradient is S^T F: slopes S [B, J] of the loss in the scores, and the batch's features F [B, D]. AdamW treats
every number by itself, so a tile of a client's params after t steps follows from the server's tile and the slopes and
features of these steps: 32 numbers a row of params and step, where a batch has 32 rows, instead of three times D. Each
step recomputes the tiles, multiplies them with its own batch and forgets them (`recomputed_kernels`). A round of t
steps costs t (t - 1) / 2 more products of S^T F than one that stores, and nothing of size C x J x D moves.

    python -m experiments.benchmarks.accelerator --only=recomputed

times it beside the engine on a GPU or a TPU; tests hold it to the engine's keys (1e-6) in Pallas's interpret mode, and
compile the kernels as far as Triton's and Mosaic's own code. It stays a trial until it is faster on a device that
somebody has. JAX 0.12 says that Pallas's Triton backend will be removed: what pays has to move to another one.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from cachefl_jax.methods.cachefl import cachefl
from cachefl_jax.methods.method import loss_of_scores
from cachefl_jax.precision import run_precision
from experiments.benchmarks import ours
from experiments.benchmarks.recomputed_kernels import Device, Steps, mean_change, scores
from experiments.benchmarks.workloads import Arrays, Workload


def recomputed(
    workload: Workload, arrays: Arrays, device: Device
) -> tuple[Callable[[int], None], Callable[[], np.ndarray]]:
    """(step, keys) as of `ours.prepare_ours`, for clients of equal size and whole batches.

    Raises ValueError: tiles or batches do not divide the workload."""
    shape = workload.classes * workload.keys, workload.width
    parts = (*zip(shape, (device.rows, device.columns), strict=True), (workload.samples, workload.batch))
    if any(whole % part for whole, part in parts):
        raise ValueError(f"tiles of {device.rows} x {device.columns} do not divide {workload}, or batches its samples")
    problem = ours.make_problem(workload, arrays, "adamw")
    lead = workload.clients, workload.samples // workload.batch, workload.batch
    data = jax.tree.map(lambda leaf: jnp.asarray(leaf).reshape(*lead, *leaf.shape[1:]), problem.data)
    count, loss, frozen = workload.epochs * lead[1], loss_of_scores(cachefl), problem.frozen

    def slopes_of(found: jax.Array, batch) -> jax.Array:
        """[B, J] of the mean loss at scores [B, J]."""
        shaped = found.reshape(-1, workload.classes, workload.keys)
        return jax.grad(lambda shaped: loss(shaped, frozen, batch).mean())(shaped).reshape(found.shape)

    def one_round(keys: jax.Array) -> jax.Array:
        features = jnp.tile(data.features, (1, workload.epochs, 1, 1))
        steps = Steps(features, jnp.zeros((*features.shape[:3], len(keys)), jnp.float32))
        for number in range(count):
            batch = jax.tree.map(lambda leaf, at=number % lead[1]: leaf[:, at], data)
            # The first step's are with the server's params: one product for all clients.
            found = scores(device, problem.hyper, keys, steps, number) if number else batch.features @ keys.T
            slopes = jax.vmap(slopes_of)(found, batch)
            steps = steps._replace(slopes=steps.slopes.at[:, number].set(slopes))
        return keys + mean_change(device, problem.hyper, keys, steps)

    @jax.jit
    def rounds(keys: jax.Array, count: jax.Array) -> jax.Array:
        with run_precision():
            return jax.lax.fori_loop(0, count, lambda _, keys: one_round(keys), keys)

    now = jnp.asarray(arrays.keys).reshape(shape)

    def step(count: int) -> None:
        nonlocal now
        now = jax.block_until_ready(rounds(now, np.int32(count)))

    return step, lambda: np.asarray(now)
