"""A run that is done, as its folder has it: its config, its federation and its checkpoints."""

from typing import NamedTuple

from ml_collections import ConfigDict

from cachefl_jax.errors import UsageError
from cachefl_jax.federation import ServerState
from cachefl_jax.simulation.build import Learner, build
from cachefl_jax.simulation.contenders import config_of, own_of
from cachefl_jax.simulation.devices import use_engine
from cachefl_jax.simulation.prepare import Inputs, counted, prepare
from cachefl_jax.simulation.workdir import Workdir
from cachefl_jax.storage.checkpoint import restore


class Finished(NamedTuple):
    """What the rounds of config.method were made of."""

    config: ConfigDict  # that they trained by
    inputs: Inputs
    learner: Learner

    def after(self, workdir: Workdir, rounds: int) -> ServerState:
        """The server after so many rounds. Raises UsageError: there is no such checkpoint."""
        start = self.learner.start()
        return restore(workdir.checkpoints, start, rounds) if rounds else start


def stored(workdir: Workdir) -> ConfigDict:
    """The config of a folder's run. Raises UsageError: it holds none, or a pilot's."""
    workdir.refuse_pilot()
    if not workdir.config.is_file():
        found = f"{workdir.path} (no config.json)"
        raise UsageError("--workdir", found, "a run's folder", "run an experiment first")
    return workdir.stored_config()


def rebuild(workdir: Workdir, config: ConfigDict) -> Finished:
    """What the folder's run of this config was made of. Raises UsageError: its data or code are others by now."""
    use_engine(config.engine)
    workdir.refuse_other_code(config)
    inputs = prepare(config)
    workdir.refuse_other_data(inputs.parts)
    config = counted(config, inputs)
    config = config_of(config, own_of(config))
    return Finished(config, inputs, build(config, inputs, ordered=True))
