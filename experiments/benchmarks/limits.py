"""How near a round is to what this machine can do: its rate of multiplying matrices, and of moving memory.

    python -m experiments.benchmarks.limits --workload=small

Prints one JSON line with both rates, measured now.
"""

import json
import statistics
import time
from collections.abc import Callable

import numpy as np
from absl import flags

from cachefl_jax.commands import command
from experiments.benchmarks import workloads
from experiments.benchmarks.workloads import Workload

SQUARES = (1024, 2048)
COPY_BYTES = 256 * 2**20
FLOAT = 4  # bytes
LARGEST_PRODUCT = 2**27  # numbers of a product's result
LEAST_SECONDS, LEAST_REPEATS = 0.5, 7


def round_flops(workload: Workload) -> float:
    """4 n N K D C: the affinities' product and the keys' gradient, 2 n N K D each; n rows a client in all epochs.

    A round that reaches the same keys with fewer operations is credited with all of these."""
    rows = workload.clients * workload.samples * workload.epochs
    return 4.0 * rows * workload.classes * workload.keys * workload.width


def adamw_bytes(workload: Workload) -> float:
    """(6 S - 4) N K D x 4 bytes a client: what AdamW's state cannot but move in a round.

    A step reads and writes the keys and both moments, 6 passes over [NK, D]; all rows of a batch meet all keys before
    the first of them may change, so no two steps share a pass. A client's S steps spare four: the first reads no
    moments, which start at zero, and the last leaves none behind. Gradients and the mean are credited with nothing.
    Where three times [NK, D] fits into the caches, the memory is no limit and the share can exceed 1."""
    steps = workload.epochs * -(-workload.samples // workload.batch)
    state = FLOAT * workload.classes * workload.keys * workload.width
    return (6.0 * steps - 4.0) * state * workload.clients


def nearness(workload: Workload, optimizer: str, seconds: float, rates: dict) -> dict:
    """Shares of both rates that a round of so many seconds reaches, and which of the two binds."""
    flops = round_flops(workload)
    shares = {"rates": rates, "flops_per_s": flops / seconds, "flops_share": flops / seconds / rates["flops_per_s"]}
    if optimizer != "adamw":
        return shares | {"binds": "arithmetic"}
    moved = adamw_bytes(workload)
    shares |= {"bytes_per_s": moved / seconds, "bytes_share": moved / seconds / rates["bytes_per_s"]}
    memory_first = shares["bytes_share"] > shares["flops_share"]
    return shares | {"binds": "memory" if memory_first else "arithmetic"}


def product_shapes(workload: Workload) -> list[tuple[int, int, int]]:
    """(rows, inner, columns) of squares and of what the workload multiplies: batches, clients, the whole cohort."""
    columns = workload.classes * workload.keys
    rows = {workload.batch, workload.samples, workload.clients * workload.samples}
    rows = [count for count in sorted(rows) if count * columns <= LARGEST_PRODUCT]
    forward = [(count, workload.width, columns) for count in rows]
    backward = [(columns, count, workload.width) for count in rows]
    return [(size, size, size) for size in SQUARES] + forward + backward


def median_seconds(call: Callable[[], object]) -> float:
    """The median of enough calls, after one that warms up."""
    call()
    taken: list[float] = []
    while len(taken) < LEAST_REPEATS or sum(taken) < LEAST_SECONDS:
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def matmul_rate(workload: Workload) -> dict:
    """The best median rate over all shapes, of one float32 product after the other."""
    import jax
    import jax.numpy as jnp

    product = jax.jit(lambda left, right: jnp.matmul(left, right, precision=jax.lax.Precision.HIGHEST))
    rng, rates = np.random.default_rng(0), {}
    for rows, inner, columns in product_shapes(workload):
        left, right = (jnp.asarray(rng.random(shape), jnp.float32) for shape in ((rows, inner), (inner, columns)))
        seconds = median_seconds(lambda left=left, right=right: jax.block_until_ready(product(left, right)))
        rates[f"{rows}x{inner}x{columns}"] = 2.0 * rows * inner * columns / seconds
    best = max(rates, key=rates.get)
    return {"flops_per_s": rates[best], "product": best, "products": rates}


def copy_rate() -> float:
    """Bytes a second, read and written, of an elementwise step in place on an array that no cache holds."""
    import jax
    import jax.numpy as jnp

    add = jax.jit(lambda array: array + 1, donate_argnums=0)
    array = jnp.zeros(COPY_BYTES // FLOAT, jnp.float32)

    def call() -> None:
        nonlocal array
        array = jax.block_until_ready(add(array))

    return 2 * COPY_BYTES / median_seconds(call)


def main() -> None:
    workload = workloads.WORKLOADS[flags.FLAGS.workload]
    print(json.dumps(matmul_rate(workload) | {"bytes_per_s": copy_rate()}))


if __name__ == "__main__":
    flags.DEFINE_enum("workload", "small", list(workloads.WORKLOADS), "whose products are timed besides the squares")
    command.run(main)
