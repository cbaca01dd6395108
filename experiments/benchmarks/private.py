"""What bounds and noise add to a round of the small workload, each as a ratio to the same round without them.

    python -m experiments.benchmarks.private [--turns=21] [--rounds=5]

On one device, all in one process, in turn; a ratio is the median over the turns. `bound` is DP-SGD's per-example
clipping with no noise drawn, `dpsgd` both; `clip` bounds each client's update in `dual`, `gaussian` adds the server's
noise. `draws` is the time of a step's Gaussian numbers over that of a plain step. Prints one line of JSON.
"""

import functools
import json
import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from cachefl_jax import federation
from cachefl_jax.commands import command
from cachefl_jax.federation import Federation, Linear, LocalTraining, PartHyper
from cachefl_jax.federation.examples import Privacy
from cachefl_jax.methods.cachefl import Cache, cachefl
from cachefl_jax.methods.method import loss_of_scores, training_loss
from cachefl_jax.privacy.noise import Noise, bound, gaussian
from experiments.benchmarks import ours, workloads

BOUND, DEVIATION = 0.05, 1e-3  # of an update's norm, which halves most; of the noise over it
Step = Callable[[int], None]


class Case(NamedTuple):
    """A round to be timed."""

    strategy: str
    private: bool = False  # DP-SGD
    noise: float | None = None  # its noise multiplier; None: none is drawn
    parts: Mapping = {}  # of the federation, and their numbers
    numbers: PartHyper = PartHyper()


SHORT = {"transforms": (bound,)}
CASES = {
    "scan": Case("scan"),
    "bound": Case("scan", private=True),
    "dpsgd": Case("scan", private=True, noise=DEVIATION),
    "dual": Case("dual"),
    "clip": Case("dual", parts=SHORT, numbers=PartHyper((BOUND,))),
    "gaussian": Case("dual", parts=SHORT | {"mechanism": gaussian},
                     numbers=PartHyper((BOUND,), mechanism=Noise(DEVIATION, BOUND, 100.0))),
}  # fmt: skip


def prepared(case: Case, arrays: workloads.Arrays, workload: workloads.Workload) -> Step:
    """Compiles the case: so many rounds, finished when it returns."""
    linear = Linear(lambda rows: rows.features, loss_of_scores(cachefl))
    local = LocalTraining(
        training_loss(cachefl), federation.CLIENT_OPTIMIZERS["sgd"], workload.epochs, workload.batch, workload.samples,
        linear, shuffle=False, private=case.private,
    )  # fmt: skip
    shapes = federation.Shapes(np.diff(arrays.offsets), workload.clients, workload.classes * workload.keys,
                               workload.width, params=arrays.keys.nbytes)  # fmt: skip
    plan = federation.make_plan(case.strategy, local, shapes, 1, "cpu")
    parts = federation.with_sizes(Federation(local, **case.parts), plan, np.diff(arrays.offsets), "cpu")
    numbers = case.numbers
    if case.private:
        numbers = PartHyper(examples=Privacy(BOUND, case.noise))
    problem = ours.make_problem(workload, arrays, "sgd")._replace(part_hyper=jax.tree.map(np.float32, numbers))
    problem = federation.add_gram(parts, plan, federation.place(problem, plan))
    state = federation.init_server(parts, Cache(jnp.asarray(arrays.keys)), problem)
    train = federation.compile_run(parts, plan, 1, state, problem)

    def step(count: int) -> None:
        nonlocal state
        state, _ = train(state, np.int32(count), problem)
        jax.block_until_ready(state.params)

    step(1)
    return step


def drawing(workload: workloads.Workload) -> Step:
    """As many draws as all steps of so many rounds have."""
    shape = (workload.classes, workload.keys, workload.width)
    steps = workload.clients * -(-workload.samples // workload.batch) * workload.epochs

    @functools.partial(jax.jit, static_argnums=1)
    def draw(key: jax.Array, count: int) -> jax.Array:
        add = lambda number, total: total + jax.random.normal(jax.random.fold_in(key, number), shape)  # noqa: E731
        return jax.lax.fori_loop(0, count * steps, add, jnp.zeros(shape))

    return lambda count: draw(jax.random.key(0), count).block_until_ready()


def seconds(step: Step, rounds: int) -> float:
    """Of one round."""
    before = time.perf_counter()
    step(rounds)
    return (time.perf_counter() - before) / rounds


def measure(workload: workloads.Workload, turns: int, rounds: int) -> dict:
    """The JSON line's fields: seconds of the plain rounds, and ratios."""
    arrays = workloads.make(workload)
    steps = {name: prepared(case, arrays, workload) for name, case in CASES.items()} | {"draws": drawing(workload)}
    steps["draws"](rounds)
    taken = {name: [] for name in steps}
    for _ in range(turns):
        for name, step in steps.items():
            taken[name].append(seconds(step, rounds))
    ratio = lambda name, other: statistics.median(np.divide(taken[name], taken[other]))  # noqa: E731
    told = {f"{name}_seconds": statistics.median(taken[name]) for name in ("scan", "dual")}
    told |= {name: ratio(name, "scan") for name in ("bound", "dpsgd", "draws")}
    return told | {name: ratio(name, "dual") for name in ("clip", "gaussian")}


def main() -> None:
    turns, rounds = (flags.FLAGS[name].value for name in ("turns", "rounds"))
    print(json.dumps(measure(workloads.WORKLOADS["small"], turns, rounds)))


if __name__ == "__main__":
    flags.DEFINE_integer("turns", 21, "how often each round is timed", lower_bound=1)
    flags.DEFINE_integer("rounds", 5, "rounds of a turn", lower_bound=1)
    command.run(main)
