"""Trainings of CacheFL on a bank as somebody would write them by hand: one program for each optimizer's points.

    python -m experiments.benchmarks.by_hand CONFIG POINTS.json

POINTS.json lists {seed, values}. Prints every point's test accuracy. What a seed changes is stacked and picked by its
place, numbers are arrays of all points, and the points are dealt to the devices.
"""

import json
import pathlib
import runpy
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, PartitionSpec

from cachefl_jax.config import resolve
from cachefl_jax.federation import init_server, prepare, score_rows, train_rounds
from cachefl_jax.simulation import prepare as data
from cachefl_jax.simulation.build import build
from cachefl_jax.simulation.devices import use_engine
from cachefl_jax.simulation.plans import plans_of
from cachefl_jax.simulation.shared import Shared

NUMBERS = ("cache.alpha", "cache.beta", "local.learning_rate")


def accuracies(config, optimizer: str, points: list[dict]) -> np.ndarray:
    """[S] of the points of one optimizer."""
    shared, learners, seeds = Shared(), [], sorted({point["seed"] for point in points})
    config.local.optimizer, config.engine.devices = optimizer, 1
    for config.seed in seeds:
        learners.append(build(config, shared.inputs(data.prepare(config)), shared))
    first, plans = learners[0], [plans_of(config, learner)[0] for learner in learners]
    plan = plans[0]._replace(block_rows=max(plan.block_rows for plan in plans))
    largest = first.local._replace(capacity=max(learner.local.capacity for learner in learners))
    federation = first.federation._replace(local=largest)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *((one.params, one.problem.clients, one.problem.key)
                                                                for one in learners))  # fmt: skip

    def train(point, stacked, problem, rows):
        at, (alpha, beta, rate) = point
        params, clients, key = jax.tree.map(lambda leaf: leaf[at], stacked)
        frozen, hyper = problem.frozen._replace(alpha=alpha, beta=beta), problem.hyper._replace(learning_rate=rate)
        own = prepare(federation, plan, problem._replace(clients=clients, key=key, frozen=frozen, hyper=hyper))
        state = init_server(federation, params, own)
        state, _ = train_rounds(federation, plan, 1, state, jnp.int32(config.rounds), own)
        return [score_rows(first.method.logits, False, state.params, frozen, split).right.sum() for split in rows]

    count = jax.device_count()
    places = [seeds.index(point["seed"]) for point in points]
    numbers = [[point["values"][name] for name in NUMBERS] for point in points]
    padded = np.resize(np.arange(len(points)), -(-len(points) // count) * count)
    each = np.asarray(places)[padded], np.asarray(numbers, np.float32)[padded]
    mesh = jax.make_mesh((count,), ("points",), (AxisType.Auto,))
    mapped = jax.shard_map(
        lambda own, *others: jax.lax.map(lambda point: train(point, *others), own), mesh=mesh,
        in_specs=(PartitionSpec("points"), *(PartitionSpec(),) * 3), out_specs=PartitionSpec("points"),
        check_vma=False,
    )  # fmt: skip
    right, *_ = jax.jit(mapped)(each, stacked, first.problem, first.score.splits)
    return np.asarray(right)[: len(points)] / len(first.score.test.labels)


def main(file: str, points_file: str) -> None:
    points = json.loads(pathlib.Path(points_file).read_text())
    use_engine(resolve(runpy.run_path(file)["get_config"]()).engine)
    found = np.zeros(len(points))
    for optimizer in ("adamw", "sgd"):
        at = [place for place, point in enumerate(points) if point["values"]["local.optimizer"] == optimizer]
        if at:
            config = resolve(runpy.run_path(file)["get_config"]())
            found[at] = accuracies(config, optimizer, [points[place] for place in at])
    print(json.dumps(found.tolist()))


if __name__ == "__main__":
    main(*sys.argv[1:])
