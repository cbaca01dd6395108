"""Evaluates a checkpoint without training, on the run's own data or on other data.

    python -m experiments.evaluate --workdir=runs/digits [--round=R] [--config.data.path=other.npz ...]

Prints one line of JSON: round, test and validation accuracy. Writes nothing.
"""

import json
import pathlib
import sys

from absl import flags
from ml_collections import ConfigDict, config_flags

from cachefl_jax.errors import UsageError
from experiments import command

command.define("workdir")
flags.DEFINE_integer("round", None, "rounds done at the checkpoint; the last one by default")


def stored_config(argv: list[str]) -> ConfigDict:
    """The config of the folder that argv's --workdir names: its fields are this command's --config.* flags.

    Raises:
        UsageError: no --workdir, or a folder that holds no run.
    """
    from cachefl_jax.config import default
    from experiments.workdir import Workdir

    parser = flags.FlagValues()
    flags.DEFINE_string("workdir", None, "folder of the run", flag_values=parser)
    parser(argv, known_only=True)
    if not parser.workdir:
        raise UsageError("--workdir", "nothing", "a run's folder", "add --workdir=...")
    file = Workdir(pathlib.Path(parser.workdir)).config
    if not file.is_file():
        raise UsageError("--workdir", f"{parser.workdir} (no config.json)", "a run's folder", "run an experiment first")
    from cachefl_jax.files import read_json

    return from_json(read_json(file), default())


def from_json(fields: dict, sample: ConfigDict) -> ConfigDict:
    """A config read back from config.json, where tuples had become lists."""
    config = ConfigDict()
    for name, value in fields.items():
        if isinstance(value, dict):
            config[name] = from_json(value, sample[name])
        else:
            config[name] = tuple(value) if isinstance(value, list) else value
    return config


def evaluate(config: ConfigDict, workdir: pathlib.Path, round_number: int | None) -> dict:
    """The accuracy of one checkpoint under `config`.

    Raises:
        UsageError: there is no such checkpoint, or its keys do not fit the data.
    """
    from cachefl_jax.checkpoint import restore, rounds_saved
    from cachefl_jax.config import resolve
    from experiments.build import build
    from experiments.prepare import prepare
    from experiments.workdir import Workdir

    config, folder = resolve(config), Workdir(workdir).checkpoints
    learner = build(config, prepare(config))
    if round_number is None:
        round_number = max(rounds_saved(folder), default=0)
    state = restore(folder, learner.start(), round_number)
    test, validation = learner.score(learner.accuracy, state.params)
    return {"round": round_number, "test_accuracy": test, "validation_accuracy": validation}


def main() -> None:
    workdir = pathlib.Path(command.required("workdir"))
    print(json.dumps(evaluate(command.required("config"), workdir, flags.FLAGS["round"].value)))


if __name__ == "__main__":
    try:
        config_flags.DEFINE_config_dict("config", stored_config(sys.argv), lock_config=True)
    except UsageError as error:
        command.leave(error)
    command.run(main)
