"""What the federation is compared with: CLIP untuned, the cache untuned, each client alone, everybody in one place.

Each function gives a method's entry in summary.json.
"""

import functools
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from cachefl_jax import costs
from cachefl_jax.config import lookup, rows_of
from cachefl_jax.errors import UsageError
from cachefl_jax.federation import Clients, Problem, place_locally, repeat_views, seen_locally, tree_bytes
from cachefl_jax.methods import Method
from cachefl_jax.methods.zero_shot import zero_shot as ZERO_SHOT
from cachefl_jax.simulation.build import Learner, finite, number_fields
from cachefl_jax.simulation.examples import bank_clients
from cachefl_jax.simulation.filling import Engine
from cachefl_jax.simulation.parts import local_training
from cachefl_jax.simulation.prepare import Inputs
from cachefl_jax.simulation.separate import Job, Separate
from cachefl_jax.simulation.workdir import Workdir
from cachefl_jax.storage.run_files import UNSCORED, read_baselines


class Surroundings(NamedTuple):
    """What is there while a method trains."""

    workdir: Workdir
    engine: Engine | None  # the federation's, filled


def compare(config: ConfigDict, inputs: Inputs, learner: Learner, run: Surroundings) -> dict[str, dict]:
    """Every method but the federation's own, each finished one kept in baselines.json so that no resume redoes it;
    those that were trained for fewer rounds, if only for none, are trained again."""
    workdir = run.workdir
    runners = {
        "zero_shot": zero_shot,
        "round_0": cache_init,
        "alone": functools.partial(local_only, run=run),
        "centralized": functools.partial(centralized, run=run),
    }
    rows = {row.name: row.regime for row in rows_of(config) if row.regime in runners}
    rounds = {name: config.rounds if regime in ("alone", "centralized") else 0 for name, regime in rows.items()}
    results = read_baselines(workdir.baselines) if workdir.baselines.is_file() else {}
    results = {name: entry for name, entry in results.items() if entry.get("rounds") == rounds.get(name, -1)}
    for name, regime in rows.items():
        if name not in results:
            results[name] = runners[regime](config, inputs, learner)
            workdir.write_json(workdir.baselines, results)
    if workdir.writes:
        workdir.local_only.unlink(missing_ok=True)  # what it was to save is in baselines.json
    return results


def zero_shot(config: ConfigDict, inputs: Inputs, learner: Learner) -> dict:
    """CLIP by its prompts alone; without text features it has no answer to be right about."""
    if inputs.bank.text_features is None:
        return result(UNSCORED | told_of(ZERO_SHOT))
    return result(learner.zero_shot(()) | told_of(ZERO_SHOT))


def cache_init(config: ConfigDict, inputs: Inputs, learner: Learner) -> dict:
    """The synthetic cache as the server sends it, untuned: it travels down once."""
    down = tree_bytes(learner.params)
    scores, method = untuned_scores(config, learner), learner.method
    scores = scores | {"label": method.untrained or f"{method.label} at round 0"}
    return result(scores, down=down, total=down * config.partition.clients)


def untuned_scores(config: ConfigDict, learner: Learner) -> dict:
    """The figures of the method at round 0.

    Raises:
        UsageError: its logits are too large for float32.
    """
    name, *others = number_fields(learner.method) or ["method"]
    mend = "correct its init" if name == "method" else " and ".join(["bring it nearer to 0", *others])
    refusal = UsageError(name, lookup(config, name), "one at which round 0's logits are finite", mend)
    return finite(learner.score(learner.params), refusal)


def local_only(config: ConfigDict, inputs: Inputs, learner: Learner, run: Surroundings) -> dict:
    """Each client by itself for as many rounds, on the same test rows; the mean over clients, unweighted."""
    devices = min(max((config.engine.devices or jax.device_count()) // jax.process_count(), 1), learner.clients)
    problem, _ = local_problem(inputs, learner, run.engine, devices)
    job = Job(
        "local_only", learner.local, problem, learner.client_rows, devices, run.workdir.local_only, run.workdir.writes,
        alone=True,
    )  # fmt: skip
    scores, seconds = Separate(config, learner, job).run()
    count, down = learner.clients, tree_bytes(learner.params)
    return result(
        scores, rounds=config.rounds, down=down, total=down * count, flops=learner.flops(),
        seconds=seconds / config.rounds if config.rounds else None,
    )  # fmt: skip


def centralized(config: ConfigDict, inputs: Inputs, learner: Learner, run: Surroundings) -> dict:
    """The same training on everybody's rows: a federation of one client that holds them all."""
    rows = len(inputs.bank.train.labels)
    problem, places = local_problem(inputs, learner, run.engine, 1)
    whole = repeat_views(Clients(np.asarray([0, rows], np.int32), np.arange(rows, dtype=np.int32)), learner.local.views)
    whole = whole._replace(indices=whole.indices if places is None else places[whole.indices])
    local = local_training(config, learner.method, rows)
    problem = problem._replace(clients=place_locally(whole, 1))
    job = Job("centralized", local, problem, np.asarray([rows]), 1, None, run.workdir.writes, alone=False)
    scores, seconds = Separate(config, learner, job).run()
    return result(
        scores, rounds=config.rounds, up=None, down=None, total=None,
        flops=costs.round_flops(local, learner.params, problem, np.asarray([rows])),
        seconds=seconds / config.rounds if config.rounds else None,
    )  # fmt: skip


def local_problem(
    inputs: Inputs, learner: Learner, engine: Engine | None, devices: int
) -> tuple[Problem, np.ndarray | None]:
    """(the federation's arrays on this process's first devices, where each row of the bank's lies in them; None: where
    it was). What the engine has put there is used, not copied."""
    ours, key = learner.problem._replace(key=None, gram=None), learner.problem.key
    seen = engine and seen_locally(engine.problem._replace(key=None, gram=None), devices)
    problem = seen or place_locally(ours, devices)
    now, before = np.asarray(problem.clients.indices), bank_clients(inputs.bank, inputs.division).indices
    if np.array_equal(now, before):
        return problem._replace(key=key), None
    places = np.empty(len(before), np.int32)
    places[before] = now
    return problem._replace(key=key), places


def told_of(method: Method) -> dict[str, str]:
    """What a method's entry says of it, so that a report needs no method's file."""
    told = {name: getattr(method, name) for name in ("label", "explanation", "untrained", "privacy")}
    return {name: text for name, text in told.items() if text}


def result(
    scores: dict, *, rounds: int = 0, up: int | None = 0, down: int | None = 0,
    total: int | None = 0, flops: float = 0.0, seconds: float | None = None,
) -> dict:  # fmt: skip
    """A method's entry in summary.json. Bytes are null where nothing federated happened that could be counted."""
    return {
        **scores, "rounds": rounds,
        "uplink_bytes_per_client_round": up, "downlink_bytes_per_client_round": down, "total_bytes": total,
        "client_flops_per_round": flops, "seconds_per_round": seconds,
    }  # fmt: skip
