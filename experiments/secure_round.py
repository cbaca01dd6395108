"""Runs one round of a run with a secure sum once more, with keys, masks, shares and clients that leave.

    python -m experiments.secure_round --workdir=runs/secure [--round=R]

Prints one line of JSON: whether the protocol's sum is the round's to the bit, bytes and seconds by message. Round R
needs the checkpoint of the round before; by default R is the round after the last checkpoint. Writes nothing.
"""

import json
import pathlib

from absl import flags

from cachefl_jax.commands import command
from cachefl_jax.simulation.environment import settle
from cachefl_jax.simulation.secure_replay import replay_round

command.define("workdir")
flags.DEFINE_integer("round", None, "the round, from 1; the one after the last checkpoint by default", lower_bound=1)


def main() -> None:
    settle()
    print(json.dumps(replay_round(pathlib.Path(command.required("workdir")), flags.FLAGS["round"].value)))


if __name__ == "__main__":
    command.run(main)
