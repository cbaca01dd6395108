"""Runs one experiment, or resumes it.

python -m experiments.run --config=experiments/configs/digits.py --workdir=runs/digits [--config.a.b=v ...]
"""

import pathlib

from cachefl_jax.config import resolve
from experiments import command

command.define("config", "workdir")


def main() -> None:
    config, workdir = resolve(command.required("config")), pathlib.Path(command.required("workdir"))
    # Imported late: what is wrong with the config is said at once, not after JAX has loaded.
    from experiments.train import train_and_evaluate

    train_and_evaluate(config, workdir)


if __name__ == "__main__":
    command.run(main)
