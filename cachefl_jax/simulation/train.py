"""One experiment from config to report: the whole run, top to bottom."""

import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.config import resolve, rows_of
from cachefl_jax.data.bank import SPLITS
from cachefl_jax.data.suite import title_of
from cachefl_jax.methods.cachefl import cachefl
from cachefl_jax.precision import arithmetic
from cachefl_jax.privacy.secure.sums import notes_on_sums
from cachefl_jax.report import method_table, write_report
from cachefl_jax.simulation.advice import advice
from cachefl_jax.simulation.build import build
from cachefl_jax.simulation.contenders import Contender, check_regimes, contenders_of, own_of
from cachefl_jax.simulation.devices import entered_by_process_0, use_engine
from cachefl_jax.simulation.filling import needs_table
from cachefl_jax.simulation.made_of import files_of
from cachefl_jax.simulation.notes import tell
from cachefl_jax.simulation.plans import plans_of
from cachefl_jax.simulation.prepare import Inputs, card, counted, partition_arrays, prepare
from cachefl_jax.simulation.regimes import Run, compare, deployed
from cachefl_jax.simulation.rounds import begin
from cachefl_jax.simulation.scores import notes_on_clients
from cachefl_jax.simulation.shared import Shared
from cachefl_jax.simulation.trial import try_components
from cachefl_jax.simulation.workdir import Workdir, own_row
from cachefl_jax.simulation.writers import check_writers
from cachefl_jax.storage.entries import tidy_stores
from cachefl_jax.storage.locks import folder_lock
from cachefl_jax.storage.run_files import read_summary
from cachefl_jax.unused import unused


class Results(NamedTuple):
    """What a run came to, on the host.

    Attributes:
        summary: as summary.json has it: the data, and the figures of everything that `compare` or `methods` names.
        records: as metrics.jsonl has them, a dict for each round of `config.method` from round 0; empty where what is
            compared leaves the federated method out, and then all that follows is empty, too.
        params: the server's after the last round, a pytree as the method's `init` makes it; of CacheFL
            `Cache(keys [N, K, D])`. None where nothing was trained.
        artefact: arrays by name, what a user deploys; of CacheFL {"keys": [N, K, D]}.
        metadata: what they need besides by name, the class names among it; of CacheFL alpha, beta and the logit scale.
    """

    summary: dict
    records: list[dict]
    params: Any
    artefact: dict[str, np.ndarray]
    metadata: dict[str, Any]


def train_and_evaluate(config: ConfigDict, path: pathlib.Path) -> dict:
    """Runs or resumes the experiment in the folder `path` and prints its table; returns its summary.

    Raises UsageError: as `run_in`."""
    workdir = Workdir(path)
    results = run_in(resolve(config), workdir)
    if results is None:
        print(f"{path}: already done; nothing to do")
    summary = read_summary(workdir.summary) if results is None else results.summary
    if workdir.writes:
        print(method_table(summary))
        print(f"report: {workdir.report.absolute()}")
    return summary


def run_in(config: ConfigDict, workdir: Workdir) -> Results | None:
    """Runs or resumes the experiment of a resolved config; None where the folder has all of it already.

    Raises UsageError: the config is wrong, asks for what is not there, or the folder holds another run. Nothing has
    been written then."""
    if already_done(config, workdir):  # said without a lock, so that the folder may be one that is not to be written
        return None
    workdir.refuse_read_only()
    use_engine(config.engine)
    workdir.writes = jax.process_index() == 0
    with entered_by_process_0(folder_lock(workdir.path)):
        # Once more: another command may just have left.
        return None if already_done(config, workdir) else train(config, workdir)


def already_done(config: ConfigDict, workdir: Workdir) -> bool:
    """Whether the folder has all that this run leaves.

    Raises UsageError: it holds another run, or one on other data than are there now."""
    workdir.refuse_others(config)
    done = workdir.finished(config)
    if done:
        workdir.check_done(config)
    return done


def train(config: ConfigDict, workdir: Workdir) -> Results:
    """`run_in` a folder that is this process's own, or in none."""
    check_writers(config)
    if workdir.writes:
        workdir.remove_leftovers()
        tidy_stores()
    files = files_of(config)  # before they are read: what changes meanwhile is noticed by the next start
    inputs = prepare(config)
    asked, config = config, counted(config, inputs)
    workdir.refuse_other_data(inputs.parts)
    contenders, own = build_all(config, inputs), own_row(config)
    first = contenders[0]
    # Before anything is written: it may not fit.
    begun = [begin(first.config, first.learner, workdir)] if own else []
    made_of = {"parts": inputs.parts, "files": files}
    idle = unused(config)
    tell((*inputs.told, *idle) if workdir.writes else ())
    workdir.write_inputs(asked, partition_arrays(inputs), card(config, inputs), made_of)
    workdir.write_images(inputs.images)
    inputs = inputs._replace(images=None)  # what was drawn may be large
    workdir.write_artefact(workdir.cache_init, *untuned_cache(config, inputs, workdir))

    results, trained = compare(Run(config, inputs, workdir), contenders, begun)
    validation = inputs.bank.validation
    doubts = advice(results, own_of(config), len(validation.labels) if validation else 0) + notes_on_sums(results)
    tell(doubts if workdir.writes else ())
    summary = {
        "dataset": describe(config, inputs),
        "method": own,
        "methods": {row.name: results[row.name] for row in rows_of(config)},
        "whole_model": inputs.whole_model,
        "precision": arithmetic(),
        "notes": [*inputs.notes, *notes_on_clients(first.learner.score.own), *idle, *doubts],
    }
    workdir.write_json(workdir.summary, summary)
    if workdir.writes:
        write_report([workdir.path])
    return Results(summary, *trained)


def build_all(config: ConfigDict, inputs: Inputs) -> list[Contender]:
    """The contenders with their learners, that of config.method's rounds first; they have equal arrays in common.

    Raises UsageError: a method reads what the data have not, or no plan that the config allows trains it."""
    shared, built = Shared(), []
    for contender in contenders_of(config):
        own = contender.config
        federated = contender.federated is not None
        learner = build(own, inputs, shared, ordered=True, name=contender.method, clocked=federated)
        try_components(own, learner, inputs.bank.classes)
        if federated:
            plans_of(own, learner)
        check_regimes(contender.rows, learner)
        built.append(contender._replace(learner=learner))
    return built


def rehearse(config: ConfigDict) -> None:
    """Prints what a run would need on each device, plan by plan, with nothing allocated there.

    The run's folder is left alone; what is drawn or encoded goes into the store, as a run's would.

    Raises UsageError: as `train_and_evaluate`; a plan that does not fit is only told."""
    config = resolve(config)
    use_engine(config.engine)
    inputs = prepare(config)
    config = counted(config, inputs)
    contenders = build_all(config, inputs)
    tell((*inputs.told, *unused(config)))
    for own, _, _, learner in contenders:
        print(*([f"{learner.method.label}:"] if len(contenders) > 1 else []), needs_table(own, learner), sep="\n")


def untuned_cache(config: ConfigDict, inputs: Inputs, workdir: Workdir) -> tuple[dict, dict]:
    """The artefact of the cache at round 0: what the server has drawn, whatever the method makes of it."""
    arrays, told = cachefl.artefact(cachefl.init(inputs.server, config), cachefl.freeze(inputs.server, config))
    told |= {"class_names": list(inputs.bank.class_names)}
    return deployed(Run(config, inputs, workdir), "cachefl", (arrays, told))


def describe(config: ConfigDict, inputs: Inputs) -> dict:
    """summary.json's account of the data."""
    bank = inputs.bank
    splits = {name: getattr(bank, name) for name in SPLITS}
    rows = {name: len(split.labels) if split else 0 for name, split in splits.items()}
    return {
        "name": config.data.name, "title": title_of(config.data),
        "class_names": list(bank.class_names), "classes": bank.classes,
        "features": bank.width, **rows, "clients": config.partition.clients,
    }  # fmt: skip
