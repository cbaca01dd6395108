"""Points of a config's sweep one by one in one process: the seconds a point, on the clock and of all cores.

    python -m experiments.benchmarks.one_by_one simulate|engine CONFIG NUMBER...

simulate is a run without a folder; engine one compiled and filled engine for all, of which training and evaluation
are timed. The first point is done once before, so that programs are compiled.
"""

import json
import pathlib
import runpy
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
from absl import flags
from ml_collections import ConfigDict

import cachefl_jax
from cachefl_jax.federation import add_gram, place
from cachefl_jax.simulation.devices import use_engine
from cachefl_jax.simulation.engine import start_engine


def as_runs(configs: list[ConfigDict]) -> Iterator[Callable]:
    """Each point as a run of its own."""
    return (lambda config=config: cachefl_jax.simulate(config, None) for config in configs)


def by_one_engine(configs: list[ConfigDict]) -> Iterator[Callable]:
    """Each point's rounds and evaluation, by the engine of the first."""
    from cachefl_jax.simulation.sweep_points import prepared_points

    use_engine(configs[0].engine)
    points = prepared_points(configs, list(range(len(configs))))
    engine = start_engine(points[0].config, points[0].learner, pathlib.Path("no engine.json"))

    def train(learner) -> dict:
        problem = add_gram(learner.federation, engine.plan, place(learner.problem, engine.plan))
        state = place(learner.start(), engine.plan)
        state, _ = engine.run(state, np.int32(points[0].config.rounds), problem)
        return learner.scored(state, engine.plan)

    return (lambda learner=point.learner: train(learner) for point in points)


def main(way: str, file: str, *numbers: str) -> None:
    from cachefl_jax.commands import sweep

    every = list(sweep.configs(runpy.run_path(file)["get_config"](), sweep.points(file)))
    configs = [every[int(number)] for number in numbers]
    first, *others = (as_runs if way == "simulate" else by_one_engine)([configs[0], *configs])
    first()
    began, before = time.perf_counter(), time.process_time()
    for point in others:
        point()
    print(json.dumps([(time.perf_counter() - began) / len(others), (time.process_time() - before) / len(others)]))


if __name__ == "__main__":
    flags.FLAGS(sys.argv[:1])
    main(*sys.argv[1:])
