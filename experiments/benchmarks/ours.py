"""A workload on this package, in a process of its own, so that its memory and CPU time are its own too.

    python -m experiments.benchmarks.ours --workload=small --optimizer=sgd --strategy=auto

Prints one JSON line: seconds and CPU-seconds of every round, memory, and what the final keys are compared by.
"""

import json
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from absl import flags

from cachefl_jax.commands import command
from cachefl_jax.config.engine import STRATEGIES
from cachefl_jax.errors import UsageError
from cachefl_jax.machine import cores
from experiments.benchmarks import readings, workloads
from experiments.benchmarks.workloads import Arrays, Workload

SPLITS = ("equal", "dirichlet")
CONCENTRATION = 0.1  # of the Dirichlet split
ENGINE_FLAGS = ("strategy", "devices", "client_chunk", "rounds_a_call")


class Choice(NamedTuple):
    """How the engine is asked to train a workload; as flags have it."""

    optimizer: str
    strategy: str = "auto"  # coefficients where the optimizer has them; else on a CPU a scan, chunks elsewhere
    client_chunk: int = 0
    cohort: int = 0  # clients a round; 0: all


def define_flags() -> None:
    """This command's flags; only where it is the program, for other commands have some of the same names."""
    flags.DEFINE_enum("workload", "small", list(workloads.WORKLOADS), "what is trained")
    flags.DEFINE_enum("optimizer", "sgd", workloads.OPTIMIZERS, "the clients' optimizer")
    flags.DEFINE_enum("split", "equal", SPLITS, "who holds what")
    flags.DEFINE_multi_integer("key_sums", [], "also tell the key sum after so many rounds, the first one included")
    flags.DEFINE_integer("cohort", 0, "clients a round; 0 = all", lower_bound=0)
    for name in ("classes", "keys", "width", "clients", "samples", "batch", "epochs", "rounds"):
        flags.DEFINE_integer(name, 0, f"replaces the workload's {name}; 0 = as it is", lower_bound=0)
    define_engine_flags()


def define_engine_flags() -> None:
    """The flags that every command of the benchmark hands on to here."""
    flags.DEFINE_enum("strategy", "auto", ("auto", *STRATEGIES), "how the engine trains a cohort")
    flags.DEFINE_integer("devices", 0, "over how many devices clients are spread; 0 = all", lower_bound=0)
    flags.DEFINE_integer("client_chunk", 0, "clients side by side; 0 = the engine's choice", lower_bound=0)
    flags.DEFINE_integer("rounds_a_call", 5, "rounds that one call of the program does, as in a run", lower_bound=1)


def engine_words() -> list[str]:
    """This process's engine flags, as words for a child's command line."""
    return [f"--{name}={flags.FLAGS[name].value}" for name in ENGINE_FLAGS]


def prepare_ours(
    workload: Workload, arrays: Arrays, devices: int, choice: Choice
) -> tuple[Callable[[int], None], Callable[[], np.ndarray]]:
    """(step, keys): so many rounds, finished when it returns; the keys. All that the benchmark knows of the engine.

    `arrays`: its data, which are placed on the device here."""
    import jax
    import jax.numpy as jnp

    from cachefl_jax import federation
    from cachefl_jax.federation.memory import capacity
    from cachefl_jax.methods.cachefl import Cache, cachefl
    from cachefl_jax.methods.method import loss_of_scores, training_loss

    samples = np.diff(arrays.offsets)
    linear = federation.Linear(lambda rows: rows.features, loss_of_scores(cachefl))
    sizes = federation.plan_batches(workload.batch, int(samples.max()))
    optimizer = federation.CLIENT_OPTIMIZERS[choice.optimizer]
    local = federation.LocalTraining(
        training_loss(cachefl), optimizer, workload.epochs, *sizes, linear=linear, shuffle=False
    )
    parts = federation.Federation(local, cohort=choice.cohort)
    exact, strategy = federation.fits_dual(parts), choice.strategy
    if strategy == "dual" and not exact:
        found = f"dual with {choice.optimizer}"
        raise UsageError("--strategy", found, "another strategy, or sgd", "change one of them")
    if strategy == "auto":
        strategy = "dual" if exact else "scan" if jax.default_backend() == "cpu" else "chunk"
    cohort, keys = choice.cohort or workload.clients, workload.classes * workload.keys
    shapes = federation.Shapes(samples, cohort, keys, workload.width, choice.client_chunk)
    shapes = shapes._replace(params=arrays.keys.nbytes, memory=capacity())
    plan = federation.make_plan(strategy, local, shapes, min(devices, cohort), jax.default_backend())
    parts = federation.with_sizes(parts, plan, samples, jax.default_backend())
    problem = federation.place(make_problem(workload, arrays, choice.optimizer), plan)
    problem = federation.add_gram(parts, plan, problem)
    state = federation.init_server(parts, Cache(jnp.asarray(arrays.keys)), problem)
    state = federation.place(state, plan)
    train = federation.compile_run(parts, plan, 1, state, problem)
    jax.block_until_ready((problem, state))

    def step(count: int) -> None:
        nonlocal state
        state, _ = train(state, np.int32(count), problem)
        jax.block_until_ready(state.params)

    return step, lambda: np.asarray(state.params.keys)


def make_problem(workload: Workload, arrays: Arrays, optimizer: str):
    """The workload as the engine takes it, on the host; text logits once a run, as a simulation has them."""
    import jax

    from cachefl_jax import federation
    from cachefl_jax.methods import Rows, text_logits
    from cachefl_jax.methods.cachefl import Frozen

    constants = (workloads.LOGIT_SCALE, workloads.ALPHA, workloads.BETA)
    frozen = Frozen(arrays.text, *map(np.float32, constants))
    data = Rows(arrays.labels, arrays.features)
    data = data._replace(text_logits=np.asarray(jax.jit(text_logits)(frozen, data)))
    clients = federation.Clients(arrays.offsets.astype(np.int32), arrays.indices.astype(np.int32))
    clients, data = federation.in_client_order(clients, data)
    decay = workloads.WEIGHT_DECAY if optimizer == "adamw" else 0.0
    hyper = federation.Hyper(*map(np.float32, (workload.learning_rate, decay, 0.0, workloads.EPSILON, 0.0, np.inf)))
    server = federation.ServerHyper(np.float32(1.0), np.float32(0.0))
    return federation.Problem(clients, data, frozen, hyper, server, jax.random.key(0))


def deal(arrays: Arrays, clients: int) -> Arrays:
    """The same rows dealt out by Dirichlet shares of each class: few clients with much, many with little."""
    from cachefl_jax.config import default
    from cachefl_jax.data import make_partition

    config = default().partition
    config.update({"name": "dirichlet", "clients": clients, "concentration": CONCENTRATION})
    partition = make_partition(arrays.labels, config, seed=0)
    return arrays._replace(offsets=partition.offsets, indices=partition.indices)


def choose_devices(devices: int) -> int:
    """How many devices, made ready; on a CPU every core can be one, if it is said before JAX starts.

    Raises UsageError: there are not so many."""
    import jax

    jax.config.update("jax_num_cpu_devices", devices or cores())
    if devices > jax.local_device_count():
        allowed = f"0 to {jax.local_device_count()}, the devices there are"
        raise UsageError("--devices", devices, allowed, "lower it")
    return devices or jax.local_device_count()


def measure(workload: Workload, devices: int) -> dict:
    """Prepares and times the workload; the JSON line's fields.

    `beyond_data_bytes` is the highest memory of the timed rounds less what was held before the first one, when data,
    Gram matrices and keys lay on the device: the working memory, and what the compiled program itself takes."""
    arrays, stops = workloads.make(workload), flags.FLAGS.key_sums
    if flags.FLAGS.split == "dirichlet":
        arrays = deal(arrays, workload.clients)
    choice = Choice(*(flags.FLAGS[name].value for name in Choice._fields))
    step, keys = prepare_ours(workload, arrays, devices, choice)
    start, largest = arrays.keys.copy(), int(np.diff(arrays.offsets).max())
    del arrays
    held, sums, before = readings.memory("VmRSS"), {}, []

    def after(done: int) -> None:
        if done == 1:
            before.append(readings.peak_bytes())
            before.append(readings.forget_peak())
        if done in stops:
            sums[done] = workloads.fingerprint(keys(), start)

    timing = readings.timed_rounds(step, workload.rounds, after, flags.FLAGS.rounds_a_call, stops)
    highest = readings.peak_bytes()
    return timing | {
        "largest_client": largest,
        "peak_bytes": max(before[0], highest),
        "beyond_data_bytes": highest - held if held is not None and before[1] else None,
        "after": sums,
        **workloads.fingerprint(keys(), start),
    }


def main() -> None:
    values = flags.FLAGS
    sizes = {name: values[name].value for name in Workload._fields if name in values}
    workload = workloads.WORKLOADS[values.workload]
    workload = workload._replace(**{name: value for name, value in sizes.items() if value})
    devices = choose_devices(values.devices)
    told = {"tag": "cachefl_jax", "workload": values.workload, "optimizer": values.optimizer, "devices": devices}
    told |= {"strategy": values.strategy, "rounds": workload.rounds}
    print(json.dumps(told | measure(workload, devices)))


if __name__ == "__main__":
    define_flags()
    command.run(main)
