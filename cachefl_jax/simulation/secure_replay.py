"""A round of a run's folder once more, with the protocol of its secure sum."""

import pathlib

from cachefl_jax.config.secure import SECURE
from cachefl_jax.errors import UsageError
from cachefl_jax.simulation.build import build
from cachefl_jax.simulation.contenders import config_of, own_of
from cachefl_jax.simulation.devices import use_engine
from cachefl_jax.simulation.prepare import counted, prepare
from cachefl_jax.simulation.workdir import Workdir
from cachefl_jax.storage.checkpoint import restore, rounds_saved


def replay_round(path: pathlib.Path, number: int | None = None) -> dict:
    """What `privacy.secure.replay.replay` tells of round `number`; None: of the one after the last checkpoint.

    Raises UsageError: the folder holds no run with a secure sum, other data than it began with, or no checkpoint of
    the round before; the package `cryptography` is not installed."""
    from cachefl_jax.privacy.secure.replay import replay  # needs `cryptography`
    from cachefl_jax.privacy.secure.sums import settings_of

    workdir = Workdir(path)
    if not workdir.config.is_file():
        raise UsageError("--workdir", f"{path} (no config.json)", "a run's folder", "run an experiment first")
    config = workdir.stored_config()
    if config.aggregation.name not in SECURE:
        name, mend = config.aggregation.name, "run again with --config.aggregation.name=secure_mean"
        raise UsageError("aggregation.name", name, f"a run with {' or '.join(SECURE)}", mend)
    use_engine(config.engine)
    workdir.refuse_other_code(config)
    inputs = prepare(config)
    workdir.refuse_other_data(inputs.parts)
    config = counted(config, inputs)
    config = config_of(config, own_of(config))
    learner, saved = build(config, inputs, ordered=True), rounds_saved(workdir.checkpoints)
    done = max(saved, default=0) if number is None else number - 1
    state = restore(workdir.checkpoints, learner.start(), done) if done else learner.start()
    return replay(learner.federation, settings_of(config), state, learner.problem)
