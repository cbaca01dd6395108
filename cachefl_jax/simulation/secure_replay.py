"""A round of a run's folder once more, with the protocol of its secure sum."""

import pathlib

from cachefl_jax.config.secure import SECURE
from cachefl_jax.errors import UsageError
from cachefl_jax.simulation.finished import rebuild, stored
from cachefl_jax.simulation.workdir import Workdir
from cachefl_jax.storage.checkpoint import rounds_saved


def replay_round(path: pathlib.Path, number: int | None = None) -> dict:
    """What `privacy.secure.replay.replay` tells of round `number`; None: of the one after the last checkpoint.

    Raises UsageError: the folder holds no run with a secure sum, other data than it began with, or no checkpoint of
    the round before; the package `cryptography` is not installed."""
    from cachefl_jax.privacy.secure.replay import replay  # needs `cryptography`
    from cachefl_jax.privacy.secure.sums import settings_of

    workdir = Workdir(path)
    config = stored(workdir)
    if config.aggregation.name not in SECURE:
        name, mend = config.aggregation.name, "run again with --config.aggregation.name=secure_mean"
        raise UsageError("aggregation.name", name, f"a run with {' or '.join(SECURE)}", mend)
    run = rebuild(workdir, config)
    done = max(rounds_saved(workdir.checkpoints), default=0) if number is None else number - 1
    return replay(run.learner.federation, settings_of(run.config), run.after(workdir, done), run.learner.problem)
