"""Evaluates a checkpoint without training, on the run's own data or on other data.

    python -m experiments.evaluate --workdir=runs/digits [--round=R] [--config.data.path=other.npz ...]
    python -m experiments.evaluate --workdir=runs/digits --config.method=linear_probe

The model is that of the run's method, or of another method whose rounds it compares with it.

Prints one line of JSON: the round, how many rows were scored, and the figures that summary.json has of a method. Writes
nothing. Images of a single site need not show every class of the run; only those that are evaluated are decoded and
encoded. Of other images than the run's all are tested on, unless their folder has splits of its own.
"""

import json
import pathlib
import sys
from typing import TYPE_CHECKING

import numpy as np
from absl import flags
from ml_collections import ConfigDict, config_flags

from cachefl_jax.commands import command
from cachefl_jax.commands.flag_errors import explain
from cachefl_jax.commands.named_flags import named_on
from cachefl_jax.config.components import fit_fields
from cachefl_jax.errors import UsageError, refusal
from cachefl_jax.storage.first_cache import read_cache

if TYPE_CHECKING:
    from cachefl_jax.federation import ServerState
    from cachefl_jax.simulation.build import Learner
    from cachefl_jax.simulation.prepare import Inputs
    from cachefl_jax.simulation.workdir import Workdir

command.define("workdir")
flags.DEFINE_integer("round", None, "rounds done at the checkpoint; the last one by default")


def stored_config(argv: list[str]) -> ConfigDict:
    """The config of the folder that argv's --workdir names: its fields are this command's --config.* flags.

    Raises UsageError: no --workdir, not a path, or a folder that holds no run."""
    parser = flags.FlagValues()
    command.define_path("workdir", "the folder of a run", values=parser)
    try:
        parser(argv, known_only=True)
    except flags.Error as error:
        raise explain(argv, error) from error
    if not parser.workdir:
        raise UsageError("--workdir", "nothing", "a run's folder", "add --workdir=...")
    config = stored_in(pathlib.Path(parser.workdir))
    fit_fields(config, named_on(argv))
    return config


def stored_in(workdir: pathlib.Path) -> ConfigDict:
    """The config of a run's folder. Raises UsageError: the folder holds no run."""
    from cachefl_jax.config import from_json
    from cachefl_jax.storage.run_files import read_config

    file = workdir / "config.json"
    if not file.is_file():
        raise UsageError("--workdir", f"{workdir} (no config.json)", "a run's folder", "run an experiment first")
    return from_json(read_config(file))


def define_config(config: ConfigDict) -> None:
    """Makes the fields of `config` this command's --config.* flags.

    Raises UsageError: the command line has another field."""
    try:
        config_flags.DEFINE_config_dict("config", config, lock_config=True)
    except (AttributeError, KeyError, TypeError, ValueError, flags.Error) as error:  # it reads the command line already
        raise explain(sys.argv, error) from error


def evaluate(config: ConfigDict, workdir: pathlib.Path, round_number: int | None) -> dict:
    """The figures of one checkpoint under `config`; those over the clients are of what the run's clients hold.

    Raises UsageError: there is no such checkpoint, or its keys do not fit the data."""
    from cachefl_jax.config import resolve
    from cachefl_jax.data.card import unknown_cells
    from cachefl_jax.report.workdir import read_partition
    from cachefl_jax.simulation.build import build, finite
    from cachefl_jax.simulation.contenders import config_of, own_of
    from cachefl_jax.simulation.environment import device_count, settle
    from cachefl_jax.simulation.notes import tell
    from cachefl_jax.simulation.other_images import check_classes, images_to_evaluate
    from cachefl_jax.simulation.prepare import counted, prepare
    from cachefl_jax.simulation.scores import own_rows
    from cachefl_jax.simulation.workdir import Workdir
    from cachefl_jax.storage.checkpoint import restore, rounds_saved, versions_saved
    from cachefl_jax.storage.run_files import OVER_CLIENTS, read_card, sites_of_pilot

    sites = sites_of_pilot(workdir)
    config = resolve(config)
    folder = rounds_of(config, Workdir(workdir)).checkpoints
    Workdir(workdir).refuse_other_code(config)
    settle()
    device_count()
    if sites:
        config.partition.clients = 1  # nobody trains on the rows here, which are dealt to no site
    card = workdir / "partition.json"
    names = read_card(card).get("client_names", []) if card.exists() else []
    if config.data.name == "feature_bank":
        inputs = prepare(config)
        check_classes(inputs.bank.class_names, read_cache(Workdir(workdir).cache_init)[1])
        config = counted(config, inputs)
    else:
        cache, own = read_cache(Workdir(workdir).cache_init), resolve(stored_in(workdir))
        inputs = images_to_evaluate(config, *cache, names, own, bool(sites))
    config, inputs, unknown = without_sites(config, inputs)
    config = config_of(config, own_of(config))
    learner = build(config, inputs, clocked=False)  # no round is trained
    if sites:
        cells = unknown_cells(len(sites), inputs.bank.classes)
    else:
        _, cells = read_partition(workdir / "partition.npz", inputs.bank.classes)  # the run's, whatever the data
    if round_number is None:
        round_number = max(rounds_saved(folder), default=0)
    if config.participation.buffer:
        versions = versions_saved(folder, round_number)
        learner = learner._replace(federation=learner.federation._replace(versions=versions))
    state = restore(folder, start_of(learner, cells.clients), round_number)
    spoilt = UsageError("round", round_number, "a checkpoint whose logits are finite", "name an earlier one")
    whose = config.evaluation.client_rows
    dealt, owners = config.seed if whose == "dealt" else None, inputs.test_clients if whose == "site" else None
    own = own_rows(cells, inputs.bank.test.labels, dealt, owners)._replace(validation=inputs.validation_clients)
    learner = learner._replace(score=learner.score._replace(own=own))
    scores = finite(learner.scored(state), spoilt)
    tell(inputs.told)
    bank = inputs.bank
    rows = {name: split and len(split.labels) for name, split in (("test", bank.test), ("validation", bank.validation))}
    left_out = {"clients": dict.fromkeys(OVER_CLIENTS)} if unknown else {}
    return {"round": round_number, "rows": rows, **scores} | left_out


def rounds_of(config: ConfigDict, workdir: "Workdir") -> "Workdir":
    """Where a run has the rounds of config.method, which may be another than the run's own that is compared with it.

    Raises UsageError: it trained no such rounds."""
    from cachefl_jax.config import rows_of

    stored = workdir.stored_config()
    rows = {row.method: row for row in rows_of(stored) if row.regime == "federated"}
    if config.method == stored.method:
        return workdir
    if config.method not in rows:
        methods = dict.fromkeys((stored.method, *rows))
        allowed = f"{' | '.join(methods)}, whose rounds the run in {workdir.path} trained"
        raise UsageError("method", config.method, allowed, "name one of these, or add it to the run's compare")
    return workdir.of(stored, rows[config.method])


def without_sites(config: ConfigDict, inputs: "Inputs") -> tuple[ConfigDict, "Inputs", bool]:
    """(config, inputs, whether nobody knows which images are which client's): a run that scored each site on its own
    images is evaluated on images of no site, too."""
    if config.evaluation.client_rows != "site" or inputs.test_clients is not None:
        return config, inputs, False
    config = config.copy_and_resolve_references()
    config.evaluation.client_rows = "reweighted"
    note = "No image is known to be of one of the run's sites: figures over the clients are left out."
    return config, inputs._replace(told=(*inputs.told, note)), True


def start_of(learner: "Learner", clients: int) -> "ServerState":
    """The server before round 1 of a run with so many clients, whatever the data here have."""
    held = learner.problem.clients
    held = held._replace(offsets=np.zeros(clients * learner.local.views + 1, np.int32))
    return learner._replace(problem=learner.problem._replace(clients=held)).start()


def main() -> None:
    workdir = pathlib.Path(command.required("workdir"))
    print(json.dumps(evaluate(command.required("config"), workdir, flags.FLAGS["round"].value)))


def start() -> None:
    command.in_utf8()
    try:
        if not command.help_wanted(sys.argv):
            define_config(stored_config(sys.argv))
    except UsageError as error:
        command.leave(error)
    except OSError as error:  # a path that the file system does not take
        command.leave(refusal(error, {}) or UsageError("--workdir", str(error), "a run's folder", "name another"))
    command.run(main)
