"""Runs one experiment, or resumes it.

    python -m experiments.run --config=experiments/configs/digits.py --workdir=runs/digits [--config.a.b=v ...]

--dry_run says what it will need and how it will be trained, and leaves the run's folder alone: what is drawn or encoded
for it goes into the store. In several processes, which see the same folder: the same command with
--coordinator=HOST:PORT --processes=P --process=I, or --coordinator=auto.
"""

import pathlib

from absl import flags

from cachefl_jax.commands import command
from cachefl_jax.config import resolve

command.define("config", "workdir", "processes")
if "dry_run" not in flags.FLAGS:
    flags.DEFINE_boolean("dry_run", False, "say what the run will need; only stores are written to")


def main() -> None:
    config, workdir = resolve(command.required("config")), pathlib.Path(command.required("workdir"))
    # Imported late: what is wrong with the config is said at once, not after JAX has loaded.
    from cachefl_jax.simulation.devices import join_processes
    from cachefl_jax.simulation.peers import together
    from cachefl_jax.simulation.train import rehearse, train_and_evaluate

    join_processes(*(flags.FLAGS[name].value for name in ("coordinator", "processes", "process")))
    with together():
        if flags.FLAGS.dry_run:
            rehearse(config)
        else:
            train_and_evaluate(config, workdir)


def start() -> None:
    command.run(main)
