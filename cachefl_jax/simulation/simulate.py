"""A run from a Python program: its results as values, and files only where a folder is named."""

import os
import pathlib

from ml_collections import ConfigDict

from cachefl_jax.config import resolve
from cachefl_jax.simulation.build import build
from cachefl_jax.simulation.contenders import config_of, own_of
from cachefl_jax.simulation.devices import use_engine
from cachefl_jax.simulation.environment import settled
from cachefl_jax.simulation.metrics import read_lines
from cachefl_jax.simulation.prepare import counted, prepare
from cachefl_jax.simulation.regimes import Run, model_of
from cachefl_jax.simulation.train import Results, run_in, train
from cachefl_jax.simulation.workdir import Workdir, own_row
from cachefl_jax.storage.checkpoint import restore
from cachefl_jax.storage.run_files import read_summary


def simulate(config: ConfigDict, workdir: str | os.PathLike | None) -> Results:
    """`cachefl_jax.simulate`."""
    config, folder = resolve(config), Workdir(None if workdir is None else pathlib.Path(workdir))
    with settled():
        if workdir is None:
            use_engine(config.engine)
            return train(config, folder)
        return run_in(config, folder) or read_back(config, folder)


def read_back(config: ConfigDict, folder: Workdir) -> Results:
    """The results of the finished run that a folder holds; nothing is trained.

    Raises UsageError: the checkpoint of the last round is damaged or not there."""
    summary = read_summary(folder.summary)
    if not own_row(config):
        return Results(summary, [], None, {}, {})
    use_engine(config.engine)
    inputs = prepare(config)
    config = counted(config, inputs)
    config = config_of(config, own_of(config))
    learner = build(config, inputs)
    state = restore(folder.checkpoints, learner.start(), config.rounds) if config.rounds else learner.start()
    return Results(summary, read_lines(folder.metrics), *model_of(Run(config, inputs, folder), learner, state.params))
