"""Pallas kernels that hold one tile of a client's params at a time, and its moments with it, in registers or a TPU's
fast memory (`recomputed_adamw` says what for).

Axis letters: C clients, P steps, B batch, J the params' rows (N K for a cache), D features.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu, triton

from cachefl_jax.federation import Hyper
from cachefl_jax.federation.optimizers import adamw
from cachefl_jax.precision import chosen

WARPS = 4


class Device(NamedTuple):
    """What kernels are made for.

    Attributes:
        platform: cuda or tpu.
        rows: of the params in a tile; divides J.
        columns: of D in a tile; divides D.
        programs: that fill the device: the sum over clients is cut into groups where tiles are fewer.
        interpret: runs kernels as plain JAX, on any device.
    """

    platform: str
    rows: int
    columns: int
    programs: int
    interpret: bool = False


# Neither has been timed. A GPU's tile fits into the registers of 128 threads; Mosaic asks for blocks of 128 columns,
# and a TPU's programs run one after another, so groups there only keep a program's blocks small.
DEVICES = {"gpu": Device("cuda", 32, 64, 512), "tpu": Device("tpu", 128, 128, 64)}


class Steps(NamedTuple):
    """The clients' steps; slopes are those of the mean loss, 0 where a step is still to come."""

    features: jax.Array  # [C, P, B, D]
    slopes: jax.Array  # [C, P, B, J]


def trained(hyper: Hyper, server: jax.Array, gradient: Callable[[int], jax.Array], count: int) -> jax.Array:
    """A tile of a client's params after `count` steps of AdamW, from the server's tile; `gradient` of each step."""
    optimizer, now = adamw(hyper), server
    # Mosaic has no powers by a whole number, as the optimizer takes of its count of steps.
    state = jax.tree.map(lambda leaf: leaf.astype(server.dtype), optimizer.init(server))
    for number in range(count):
        updates, state = optimizer.update(gradient(number), state, now)
        now = now + updates
    return now


def scores(device: Device, hyper: Hyper, keys: jax.Array, steps: Steps, number: int) -> jax.Array:
    """[C, B, J], each client's batch number so many with its params after the steps before; keys [J, D].

    A program of the grid has one client's scores with a tile's rows, over all of D."""
    (clients, every, batch, width), side = steps.features.shape, device.rows

    def kernel(numbers, server, features, slopes, out):
        def columns(place, total):
            part = pl.ds(pl.multiple_of(place * device.columns, device.columns), device.columns)
            gradient = lambda step: product(device, slopes[0, step], features[0, step, :, part], 0)  # noqa: E731
            tile = trained(read(numbers), server[:, part], gradient, number)
            return total + product(device, features[0, number, :, part], tile, 1)

        out[0] = jax.lax.fori_loop(0, width // device.columns, columns, jnp.zeros((batch, side), jnp.float32))

    blocks = [
        pl.BlockSpec((side, width), lambda client, row: (row, 0)),
        pl.BlockSpec((1, every, batch, width), lambda client, row: (client, 0, 0, 0)),
        pl.BlockSpec((1, every, batch, side), lambda client, row: (client, 0, 0, row)),
    ]
    found = jax.ShapeDtypeStruct((clients, batch, len(keys)), jnp.float32)
    out = pl.BlockSpec((1, batch, side), lambda client, row: (client, 0, row))
    call = of_device(device, kernel, (clients, len(keys) // side), blocks, (found, out))
    return call(jnp.stack(hyper), keys, *steps)


def mean_change(device: Device, hyper: Hyper, keys: jax.Array, steps: Steps) -> jax.Array:
    """[J, D], the mean over the clients of how far they have moved from the keys [J, D] after all steps.

    A program of the grid adds up one tile of a group of clients."""
    (clients, every, batch, _), (rows, columns) = steps.features.shape, (device.rows, device.columns)
    down, across = len(keys) // rows, keys.shape[1] // columns
    enough = -(-device.programs // (down * across))
    groups = next((count for count in range(enough, clients) if clients % count == 0), clients)
    group = clients // groups

    def kernel(numbers, server, features, slopes, out):
        start = server[...]

        def add(place, total):
            gradient = lambda step: product(device, slopes[place, step], features[place, step], 0)  # noqa: E731
            return total + trained(read(numbers), start, gradient, every) - start

        out[0] = jax.lax.fori_loop(0, group, add, jnp.zeros_like(start))

    blocks = [
        pl.BlockSpec((rows, columns), lambda group, row, column: (row, column)),
        pl.BlockSpec((group, every, batch, columns), lambda group, row, column: (group, 0, 0, column)),
        pl.BlockSpec((group, every, batch, rows), lambda group, row, column: (group, 0, 0, row)),
    ]
    found = jax.ShapeDtypeStruct((groups, *keys.shape), jnp.float32)
    out = pl.BlockSpec((1, rows, columns), lambda *at: at)
    call = of_device(device, kernel, (groups, down, across), blocks, (found, out))
    return call(jnp.stack(hyper), keys, *steps).sum(axis=0) / clients


def of_device(device: Device, kernel: Callable, grid: tuple[int, ...], blocks: list, result: tuple) -> Callable:
    """The kernel over a grid: takes the optimizer's numbers, then the arrays of `blocks`; result (shape, block)."""
    on_tpu = device.platform == "tpu"
    numbers = pl.BlockSpec(memory_space=tpu.SMEM) if on_tpu else pl.BlockSpec()
    return pl.pallas_call(
        kernel, grid=grid, in_specs=[numbers, *blocks], out_specs=result[1], out_shape=result[0],
        interpret=device.interpret, compiler_params=None if on_tpu else triton.CompilerParams(num_warps=WARPS),
    )  # fmt: skip


def read(numbers) -> Hyper:
    """The optimizer's numbers in a kernel."""
    return Hyper(*(numbers[place] for place in range(len(Hyper._fields))))


def product(device: Device, left: jax.Array, right: jax.Array, axis: int) -> jax.Array:
    """The product of two blocks over the same axis of each, in float32."""
    over = (((axis,), (axis,)), ((), ()))
    return jax.lax.dot_general(left, right, over, precision=matmul_of(device), preferred_element_type=jnp.float32)


def matmul_of(device: Device) -> jax.lax.Precision | jax.lax.DotAlgorithmPreset:
    """`engine.precision` inside a kernel, which has no bfloat16 in threes: on a GPU float32_3x is three TF32 products;
    a TPU, and a kernel that is interpreted, compute float32."""
    presets, highest = jax.lax.DotAlgorithmPreset, jax.lax.Precision.HIGHEST
    faster = {"float32_3x": presets.TF32_TF32_F32_X3, "tf32": presets.TF32_TF32_F32}
    return highest if device.interpret or device.platform == "tpu" else faster.get(chosen["precision"], highest)
