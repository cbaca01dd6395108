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

from cachefl_jax import costs
from cachefl_jax.config import Row, lookup, overrides_of, rows_of
from cachefl_jax.config.rows import OWN
from cachefl_jax.federation import Clients, Problem, by_itself, place_locally, repeat_views, seen_locally, tree_bytes
from cachefl_jax.methods import Method
from cachefl_jax.methods.method import MODEL
from cachefl_jax.methods.zero_shot import zero_shot
from cachefl_jax.report.table import EXPLANATIONS, LABELS
from cachefl_jax.simulation.build import Learner, scores_at_round_0
from cachefl_jax.simulation.contenders import Contender, config_of
from cachefl_jax.simulation.examples import bank_clients
from cachefl_jax.simulation.features_once import at_the_server, pooled, traffic_once
from cachefl_jax.simulation.filling import Engine
from cachefl_jax.simulation.local_only import LocalOnly, Population
from cachefl_jax.simulation.parts import local_training
from cachefl_jax.simulation.prepare import Inputs
from cachefl_jax.simulation.rounds import Progress, begin, run_rounds
from cachefl_jax.simulation.scores import rounds_to
from cachefl_jax.simulation.workdir import Workdir, own_row
from cachefl_jax.storage.run_files import UNSCORED, read_baselines

TRAFFIC = ("uplink_bytes_per_client_round", "downlink_bytes_per_client_round", "total_bytes")
PRIVACY = {
    "features_once": "Where features are sent once, the features and labels of every site leave it. Of all that is "
    "compared here they tell most of its images: pictures like them can be made from CLIP features."
}
TRAINED_APART = ("alone", "centralized", "features_once", "fine_tuned")  # by rounds that are none of the federation's


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


def chosen(config: ConfigDict, row: Row) -> dict[str, dict]:
    """What an entry says of the values that its row has of its own; nothing where there are none."""
    values = {} if row.regime == "zero_shot" else overrides_of(config, row)
    return {"overrides": values} if values else {}


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


def local_only(run: Run, learner: Learner, row: Row, engine: Engine | None) -> dict:
    """Each client by itself for as many rounds, on the same test rows; the mean over clients, unweighted."""
    config, count, local = run.config, learner.clients, learner.local
    local = local._replace(work=by_itself(local.work))
    devices = local_devices(config, learner)
    problem, _ = local_problem(run.inputs, learner, engine, devices)
    population = Population(local, problem, learner.client_rows, devices, learner.params, range(config.rounds))
    scores, seconds = LocalOnly(run, learner, row, population).train()
    down = tree_bytes(learner.local.work.travelling(learner.params))
    return result(
        scores | told_of(row, learner.method), (0, down, down * count), rounds=config.rounds,
        flops=costs.round_flops(local, learner.params, learner.problem, learner.client_rows), seconds=seconds,
    )  # fmt: skip


def local_devices(config: ConfigDict, learner: Learner) -> int:
    """How many of this process's devices train clients that never aggregate."""
    most = max((config.engine.devices or jax.device_count()) // jax.process_count(), 1)
    return min(most, learner.clients)


def fine_tuned(run: Run, learner: Learner, row: Row, federated: dict, params) -> dict:
    """Each client trains on from the `params` of the last round, by FedAvg's steps in the order that the round after it
    would have: what a site has that takes the federation's model home. Means over clients, of a model each."""
    rounds, devices = federated["rounds"], local_devices(run.config, learner)
    problem, _ = local_problem(run.inputs, learner, None, devices)
    local = learner.local._replace(work=by_itself(learner.local.work), epochs=run.config.personal.epochs)
    population = Population(local, problem, learner.client_rows, devices, params, range(rounds, rounds + 1))
    scores, _ = LocalOnly(run, learner, row, population).train()
    flops = costs.round_flops(local, params, learner.problem, learner.client_rows)
    entry = federated | scores | told_of(row, learner.method)
    return entry | {
        "rounds_to": None,
        "client_flops_per_round": entry["client_flops_per_round"] + flops / max(rounds, 1),
    }


def centralized(run: Run, learner: Learner, row: Row, engine: Engine | None) -> dict:
    """The same training on everybody's rows: one client that holds them all."""
    rows = np.asarray([len(run.inputs.bank.train.labels)])
    problem, places = local_problem(run.inputs, learner, engine, 1)
    everybody = Clients(np.asarray([0, *rows], np.int32), np.arange(rows[0], dtype=np.int32))
    everybody = repeat_views(everybody, learner.local.views)
    everybody = everybody._replace(indices=everybody.indices if places is None else places[everybody.indices])
    local = local_training(run.config, learner.method, rows[0])
    local = local._replace(work=by_itself(local.work))
    problem = problem._replace(clients=place_locally(everybody, 1))
    population = Population(local, problem, rows, 1, learner.params, range(run.config.rounds))
    scores, seconds = LocalOnly(run, learner, row, population).train()
    return result(
        scores | told_of(row, learner.method), (None, None, None), rounds=run.config.rounds,
        flops=costs.round_flops(local, learner.params, problem, rows), seconds=seconds,
    )  # fmt: skip


def features_once(run: Run, learner: Learner, row: Row) -> dict:
    """As `centralized`, of features that the sites have sent; a site does no more than encode its images."""
    inputs = pooled(run.config, run.inputs, learner.method)
    learner = at_the_server(run.config, learner, inputs)
    entry = centralized(run._replace(inputs=inputs), learner, row, None)
    traffic = traffic_once(run.config, run.inputs, learner.params)
    return entry | dict(zip(TRAFFIC, traffic, strict=True)) | {"client_flops_per_round": 0.0}


def local_problem(
    inputs: Inputs, learner: Learner, engine: Engine | None, devices: int
) -> tuple[Problem, np.ndarray | None]:
    """(the federation's arrays on this process's first devices, where each row of the bank's lies in them; None: where
    it was). What the engine has put there is used, not copied."""
    ours, key = learner.problem._replace(key=None, gram=None), learner.problem.key
    seen = engine and seen_locally(engine.problem._replace(key=None, gram=None), devices)
    problem = seen or place_locally(ours, devices)
    now, before = np.asarray(problem.clients.indices), bank_clients(inputs.partition, learner.local.views).indices
    if np.array_equal(now, before):
        return problem._replace(key=key), None
    places = np.empty(len(before), np.int32)
    places[before] = now
    return problem._replace(key=key), places


def train_federation(run: Run, learner: Learner, row: Row, progress: Progress) -> tuple[dict, Trained]:
    """(the entry of the last round's model, what the rounds leave). Seconds are the median over rounds without the
    first, which compiles."""
    config, workdir = run.config, run.workdir.of(run.config, row)
    state, records = run_rounds(config, learner, workdir, progress)
    trained = Trained(records, *model_of(run, learner, state.params))
    workdir.write_artefact(workdir.path / learner.method.file, trained.artefact, trained.metadata)
    up, down = learner.traffic()
    seconds = [record["seconds"] for record in records[2:]] or [record["seconds"] for record in records[1:]]
    evaluated = [line for line in records if line["test_accuracy"] is not None]
    curve = ([line[name] for line in evaluated] for name in ("round", "test_accuracy"))
    return result(
        learner.scored(state) | {"rounds_to": rounds_to(*curve)} | told_of_rounds(row, learner),
        (up, down, sum(line[way] for line in records for way in ("bytes_up", "bytes_down"))), rounds=config.rounds,
        flops=learner.flops(), seconds=statistics.median(seconds) if seconds else None,
    ), trained  # fmt: skip


def model_of(run: Run, learner: Learner, params) -> tuple[Any, dict, dict]:
    """(params, artefact, metadata) of `Trained`. An artefact whose file is not called after the method names it."""
    method, params = learner.method, jax.device_get(params)
    arrays, told = method.artefact(params, learner.score.frozen)
    named = {}
    if method.file == MODEL:
        named = {"method": learner.name} | {field.name: lookup(run.config, field.name) for field in method.fields}
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    return params, arrays, named | told | {"class_names": list(run.inputs.bank.class_names)}


def told_of(row: Row, method: Method) -> dict[str, str]:
    """What an entry says of its row, so that a report needs no method's file."""
    told = {name: getattr(method, name) for name in ("label", "explanation", "untrained", "privacy")}
    reference = {regime: name for name, regime in OWN.items()}.get(row.regime)
    if reference:
        label = method.untrained or f"{method.label} at round 0"
        if row.regime != "round_0":  # by its old name it is config.method's
            label = LABELS[reference] if row.name == reference else f"{method.label}, {LABELS[reference]}"
        told = {"label": label, "explanation": EXPLANATIONS[reference], "privacy": PRIVACY.get(row.regime, "")}
    return {name: text for name, text in told.items() if text} | {"regime": row.regime}


def told_of_rounds(row: Row, learner: Learner) -> dict[str, str]:
    """`told_of` a federated row, and by whose model it is scored."""
    told = told_of(row, learner.method)
    if learner.local.work.model is None:
        return told
    scored = "each client scored by its own model, mean over clients"
    return told | {"explanation": f"{learner.method.explanation}; {scored}"}


def result(
    scores: dict, traffic: tuple = (0, 0, 0), *, rounds: int = 0, flops: float = 0.0, seconds: float | None = None
) -> dict:
    """A row's entry in summary.json. `traffic` is bytes up and down, of a client and round, and in all; None where
    nothing federated happened that could be counted."""
    sent = dict(zip(TRAFFIC, traffic, strict=True))
    return {**scores, "rounds": rounds, **sent, "client_flops_per_round": flops, "seconds_per_round": seconds}
