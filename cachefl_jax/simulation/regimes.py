"""What a run compares: methods, each under a regime.

    federated      rounds of clients and server
    alone          as many rounds, in which no client ever hears from another: participation without aggregation
    centralized    the same with one client that holds everybody's rows
    features_once  the same where that client is the server, to which every site has sent its features and labels
    fine_tuned     after the last round of federated, each client trains on by itself
    round_0        no rounds
    zero_shot      no rounds of CLIP by its texts

Each function gives a row's entry in summary.json. All rows share training, precision, checks and scoring.
"""

import statistics
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from cachefl_jax import __version__
from cachefl_jax.config import Row, lookup, rows_of
from cachefl_jax.data.suite import folder_names_of
from cachefl_jax.federation import tree_bytes
from cachefl_jax.methods import find_method
from cachefl_jax.methods.cachefl import shortest
from cachefl_jax.methods.method import MODEL
from cachefl_jax.methods.zero_shot import zero_shot
from cachefl_jax.privacy.secure.sums import told_of_sums
from cachefl_jax.simulation.apart import TRAINED_APART, centralized, features_once, fine_tuned, local_only
from cachefl_jax.simulation.build import Learner, scores_at_round_0
from cachefl_jax.simulation.clock import each_site, told_of_sites
from cachefl_jax.simulation.contenders import Contender, config_of
from cachefl_jax.simulation.entries import chosen, result, told_of, told_of_rounds
from cachefl_jax.simulation.filling import Engine
from cachefl_jax.simulation.hostile import backdoor_success
from cachefl_jax.simulation.prepare import Inputs, client_names
from cachefl_jax.simulation.privacy import told as told_of_privacy
from cachefl_jax.simulation.rounds import Progress, begin, run_rounds
from cachefl_jax.simulation.scores import rounds_to
from cachefl_jax.simulation.workdir import Workdir, own_row
from cachefl_jax.storage.run_files import UNSCORED, read_baselines


class Run(NamedTuple):
    """What all rows share."""

    config: ConfigDict
    inputs: Inputs
    workdir: Workdir


class Trained(NamedTuple):
    """What a method's rounds leave: fields of `train.Results`."""

    records: list[dict]
    params: Any
    artefact: dict[str, np.ndarray]
    metadata: dict[str, Any]


def compare(run: Run, contenders: list[Contender], begun: list[Progress]) -> tuple[dict[str, dict], Trained]:
    """(the entry of every row by its name, what the rounds of config.method leave).

    One contender comes after another, so that one engine's arrays are on the devices at a time. Entries that need no
    rounds on the server are kept in baselines.json, so that no resume redoes them; federated rows go on from their
    checkpoints.

    Args:
        run: config, inputs and folder.
        contenders: of `contenders_of`, with their learners.
        begun: where the rounds of the first of them go on, if it has any; it is taken out.
    """
    config, workdir = run.config, run.workdir
    lasts: dict[str, tuple[dict, Any]] = {}  # of each method the entry of its rounds, and the params after the last
    references, federated_rows, trained = finished_references(run), {}, Trained([], None, {}, {})
    for contender in contenders:
        own, learner, federated = run._replace(config=contender.config), contender.learner, contender.federated
        progress = begun.pop() if begun else None
        if federated and progress is None:
            progress = begin(own.config, learner, workdir.of(config, federated))
        for row in contender.rows:
            if row is not federated and row.name not in references and row.regime != "fine_tuned":
                told = reference(own, learner, row, progress and progress.engine)
                references[row.name] = told | chosen(config, row)
                workdir.write_json(workdir.baselines, references)
        if federated:
            entry, left = train_federation(own, learner, federated, progress)
            federated_rows[federated.name] = entry | chosen(config, federated)
            trained = left if federated.name == own_row(config) else trained
            lasts[contender.method] = entry, left.params
        progress = None  # its arrays go before the next ones come
    for contender, row in ((each, row) for each in contenders for row in each.rows if row.regime == "fine_tuned"):
        if row.name not in references:
            own = run._replace(config=contender.config)
            references[row.name] = fine_tuned(own, contender.learner, row, *lasts[row.method]) | chosen(config, row)
            workdir.write_json(workdir.baselines, references)
    if workdir.writes:
        for row in rows_of(config):
            workdir.finished_clients(row).unlink(missing_ok=True)  # what it was to save is in baselines.json
    return references | federated_rows, trained


def finished_references(run: Run) -> dict[str, dict]:
    """The entries of baselines.json, without those of fewer rounds, if only of none."""
    if not run.workdir.baselines.is_file():
        return {}
    rounds = dict.fromkeys((row.name for row in rows_of(run.config)), 0)
    for row in (row for row in rows_of(run.config) if row.regime in TRAINED_APART):
        trained = row._replace(regime="federated") if row.regime == "fine_tuned" else row
        rounds[row.name] = config_of(run.config, trained).rounds
    found = read_baselines(run.workdir.baselines)
    return {name: entry for name, entry in found.items() if entry.get("rounds") == rounds.get(name, -1)}


def reference(run: Run, learner: Learner, row: Row, engine: Engine | None) -> dict:
    """The entry of a row without a server's rounds. `engine`: the method's, filled, where there is one."""
    if row.regime == "features_once":
        return features_once(run, learner, row)
    if row.regime in TRAINED_APART:
        return (local_only if row.regime == "alone" else centralized)(run, learner, row, engine)
    return untrained(run.config, learner, row)


def untrained(config: ConfigDict, learner: Learner, row: Row) -> dict:
    """A method as the server sends it at round 0; zero-shot CLIP, which sends nothing and has no answer without texts.

    Raises UsageError: the method's logits are too large for float32."""
    if row.regime == "zero_shot":
        scores = UNSCORED if learner.zero_shot is None else learner.zero_shot(())
        return result(scores | told_of(row, zero_shot))
    down = tree_bytes(learner.local.work.travelling(learner.params))
    scores = scores_at_round_0(config, learner) | told_of(row, learner.method)
    return result(scores, (0, down, down * learner.clients))


def train_federation(run: Run, learner: Learner, row: Row, progress: Progress) -> tuple[dict, Trained]:
    """(the entry of the last round's model, what the rounds leave). Seconds are the median over rounds without the
    first, whose call is slower; None of a single round."""
    config, workdir = run.config, run.workdir.of(run.config, row)
    state, records = run_rounds(config, learner, workdir, progress)
    trained = Trained(records, *model_of(run, learner, state.params))
    workdir.write_artefact(workdir.path / learner.method.file, *deployed(run, learner.name, trained[2:]))
    up, down = learner.traffic()
    if learner.federation.measures is not None:  # the mean over clients and rounds
        up = sum(line["bytes_up"] for line in records) / max(sum(line["cohort"] for line in records), 1)
    seconds = [record["seconds"] for record in records[2:]]
    evaluated = [line for line in records if line["test_accuracy"] is not None]
    curve = ([line[name] for line in evaluated] for name in ("round", "test_accuracy"))
    told = {"rounds_to": rounds_to(*curve)} | told_of_rounds(row, learner)
    told |= told_of_sums(state) | told_of_privacy(config) | backdoor_success(learner, state.params)
    told |= told_of_sites(learner)
    if learner.timetable is not None:
        workdir.write_json(workdir.sites, each_site(learner) | client_names(config, run.inputs))
    return result(
        learner.scored(state) | told,
        (up, down, sum(line[way] for line in records for way in ("bytes_up", "bytes_down"))), rounds=config.rounds,
        flops=learner.flops(), seconds=statistics.median(seconds) if seconds else None,
    ), trained  # fmt: skip


def model_of(run: Run, learner: Learner, params) -> tuple[Any, dict, dict]:
    """(params, artefact, metadata) of `Trained`."""
    return artefact_of(run, learner.name, params, learner.score.frozen)


def artefact_of(run: Run, name: str, params, frozen) -> tuple[Any, dict, dict]:
    """`model_of` the method of that name. An artefact whose file is not called after the method names it."""
    method, params = find_method(name), jax.device_get(params)
    arrays, told = method.artefact(params, frozen)
    named = {}
    if method.file == MODEL:
        named = {"method": name} | {field.name: lookup(run.config, field.name) for field in method.fields}
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    return params, arrays, named | told | {"class_names": list(run.inputs.bank.class_names)}


def deployed(run: Run, name: str, artefact: tuple[dict, dict]) -> tuple[dict, dict]:
    """(arrays, JSON values) of the file that a user deploys: a method's artefact, and what makes features and class
    weights of images and texts, so that nothing else is needed beside the checkpoint itself.

    `text` [N, D] are the class weights, zeros where a bank has none; a method that cannot be restored goes without, for
    its tensors may take a checkpoint's place. Of a bank's own encoder nothing is known: checkpoint, preparation and
    templates are null.

    `folder_names` [N] are what a described data set calls the folders of its classes."""
    arrays, told = artefact
    config, server, bank = run.config, run.inputs.server, run.inputs.bank
    images = run.inputs.whole_model is not None
    encoder = bank.metadata if images else {}
    text = {"text": server.text} if find_method(name).restore else {}
    return text | arrays, {
        "method": name,
        "logit_scale": shortest(server.logit_scale),
        **told,
        "folder_names": list(folder_names_of(config.data)) or None,
        "templates": list(server.templates) or None,
        "checkpoint": encoder.get("encoder"),
        "weights_sha256": encoder.get("weights_sha256"),
        "preparation": encoder.get("preparation"),
        "precision": config.clip.dtype if images else None,
        "data": {"name": config.data.name, "rows": len(bank.train.labels)},
        "version": __version__,
    }
