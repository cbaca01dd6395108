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
    from cachefl_jax.config import from_json

    parser = flags.FlagValues()
    command.define_path("workdir", "the folder of a run", values=parser)
    parser(argv, known_only=True)
    if not parser.workdir:
        raise UsageError("--workdir", "nothing", "a run's folder", "add --workdir=...")
    file = pathlib.Path(parser.workdir) / "config.json"
    if not file.is_file():
        raise UsageError("--workdir", f"{parser.workdir} (no config.json)", "a run's folder", "run an experiment first")
    from cachefl_jax.run_files import read_config

    return from_json(read_config(file))


def check_classes(cache: pathlib.Path, class_names: tuple[str, ...]) -> None:
    """Whether the run's keys are of these classes, in this order.

    Raises:
        UsageError: they are of others, or the run left no cache.
    """
    from safetensors import SafetensorError, safe_open

    from cachefl_jax.data.images import listing

    try:
        with safe_open(cache, "numpy") as file:
            known = tuple(json.loads(file.metadata()["class_names"]))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        found = f"{cache} ({type(error).__name__})"
        raise UsageError("--workdir", found, "the cache that a run leaves", "repeat the run's command") from error
    if known != class_names:
        mend = "name data of the same classes in the same order"
        raise UsageError("data", f"the classes {listing(class_names)}", f"the run's own, {listing(known)}", mend)


def evaluate(config: ConfigDict, workdir: pathlib.Path, round_number: int | None) -> dict:
    """The accuracy of one checkpoint under `config`.

    Raises:
        UsageError: there is no such checkpoint, or its keys do not fit the data.
    """
    from cachefl_jax.checkpoint import restore, rounds_saved
    from cachefl_jax.config import resolve
    from experiments.build import build, finite
    from experiments.environment import device_count, settle
    from experiments.prepare import counted, prepare
    from experiments.workdir import Workdir

    config, folder = resolve(config), Workdir(workdir).checkpoints
    settle()
    device_count()
    inputs = prepare(config)
    check_classes(Workdir(workdir).cache_init, inputs.bank.class_names)
    learner = build(counted(config, inputs), inputs)
    if round_number is None:
        round_number = max(rounds_saved(folder), default=0)
    state = restore(folder, learner.start(), round_number)
    spoilt = UsageError("round", round_number, "a checkpoint whose logits are finite", "name an earlier one")
    test, validation = finite(learner.score(learner.accuracy, state.params), spoilt)
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
