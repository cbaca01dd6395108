"""Evaluates a checkpoint without training, on the run's own data or on other data.

    python -m experiments.evaluate --workdir=runs/digits [--round=R] [--config.data.path=other.npz ...]

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
from cachefl_jax.errors import UsageError, listing, refusal
from cachefl_jax.storage.first_cache import read_cache

if TYPE_CHECKING:
    from cachefl_jax.data.images import ImageSet, LabelledImages
    from cachefl_jax.federation import ServerState
    from cachefl_jax.simulation.build import Learner
    from cachefl_jax.simulation.prepare import Inputs

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


def check_classes(class_names: tuple[str, ...], known: tuple[str, ...]) -> None:
    """Whether data are of the run's classes, in its order. Raises UsageError: they are of others."""

    if known != class_names:
        mend = "name data of the same classes in the same order"
        raise UsageError("data", f"the classes {listing(class_names)}", f"the run's own, {listing(known)}", mend)


def images_to_evaluate(
    config: ConfigDict,
    keys: np.ndarray,
    class_names: tuple[str, ...],
    site_names: list[str],
    own: ConfigDict,
    pilot: bool,
) -> "Inputs":
    """As `prepare`, of images that are evaluated and not trained on: no more is encoded, and classes may lack images.

    Args:
        config: a run's, with the data group of the images.
        keys: the run's at round 0, [N, K, D].
        class_names: its classes, [N].
        site_names: of its clients [C], where these are sites that have names.
        own: the run's config as it was, which tells images that were brought from its own.
        pilot: whether sites held the training rows: nothing is known of them.

    Raises UsageError: the images or the checkpoint are not to be had, or the classes are others."""
    from cachefl_jax.data import FeatureBank, Split, everything
    from cachefl_jax.data.images import select
    from cachefl_jax.data.sampling import splits_of
    from cachefl_jax.data.sources import load_for_evaluation
    from cachefl_jax.simulation.encoded import Checkpoint, class_weights, image_features, pixels_by_split
    from cachefl_jax.simulation.keys import server_of
    from cachefl_jax.simulation.other_images import is_brought, trained_on_notes
    from cachefl_jax.simulation.prepare import Inputs, templates_of

    source = load_for_evaluation(config, class_names, brought=is_brought(config, own))
    check_classes(source.class_names, class_names)
    known = [] if pilot else trained_on_notes(source.test, config, own)
    source = source._replace(notes=(*source.notes, *known))
    clip, name = config.clip, config.data.name
    checkpoint = Checkpoint(clip.checkpoint, clip.dtype, clip.batch_size)
    templates = templates_of(config, source)
    weights = class_weights(checkpoint, class_names, templates, f"{name}, class names")
    test, validation = (
        split and Split(image_features(checkpoint, split, f"{name}, {role}"), split.labels)
        for role, split in (("test", source.test), ("validation", source.validation))
    )
    width = keys.shape[-1]
    train = Split(test.features[:1], test.labels[:1])  # nobody trains on it
    bank = FeatureBank(
        train=train,
        validation=validation,
        test=test,
        synthetic=Split(keys.reshape(-1, width), np.repeat(np.arange(len(keys)), keys.shape[1]).astype(np.int32)),
        text_features=weights.arrays["text_features"],
        class_names=class_names,
        logit_scale=weights.facts["logit_scale"],
        metadata={},
    )
    server = server_of(keys, bank, encoder=checkpoint.whole, templates=templates)
    pixels = pixels_by_split(checkpoint, splits_of(source._replace(train=select(source.test, np.arange(1)))), name)
    clients = (clients_by_name(source, split, site_names) for split in (source.test, source.validation))
    return Inputs(
        bank, everything(1), server, None, None, list(source.notes), {}, source.notes, pixels, source, *clients
    )


def clients_by_name(source: "ImageSet", split: "LabelledImages | None", names: list[str]) -> np.ndarray | None:
    """[n] the client that each image of a split came from, -1 for none; None where no image says so.

    Args:
        names: of the run's clients, [C]: other images may have other sites, or these in another order."""
    if split is None or split.groups is None:
        return None
    numbers = {name: client for client, name in enumerate(names)}
    found = np.array([numbers.get(name, -1) for name in source.site_names], np.int32)[split.groups]
    return found if (found >= 0).any() else None


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
    from cachefl_jax.simulation.prepare import counted, prepare
    from cachefl_jax.simulation.scores import own_rows
    from cachefl_jax.simulation.workdir import Workdir
    from cachefl_jax.storage.checkpoint import restore, rounds_saved, versions_saved
    from cachefl_jax.storage.run_files import OVER_CLIENTS, read_card, sites_of_pilot

    sites = sites_of_pilot(workdir)
    config, folder = resolve(config), Workdir(workdir).checkpoints
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
