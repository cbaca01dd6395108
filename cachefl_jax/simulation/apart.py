"""Rows that train without the federation's rounds: clients by themselves, from the start or after the last round, and
everybody's rows in one place. Each function gives a row's entry in summary.json."""

from typing import TYPE_CHECKING

import jax
import numpy as np
from ml_collections import ConfigDict

from cachefl_jax import costs
from cachefl_jax.config import Row
from cachefl_jax.federation import Clients, Problem, by_itself, place_locally, repeat_views, seen_locally, tree_bytes
from cachefl_jax.simulation.build import Learner
from cachefl_jax.simulation.entries import TRAFFIC, result, told_of
from cachefl_jax.simulation.examples import bank_clients
from cachefl_jax.simulation.features_once import at_the_server, pooled, traffic_once
from cachefl_jax.simulation.filling import Engine
from cachefl_jax.simulation.local_only import LocalOnly, Population
from cachefl_jax.simulation.parts import local_training
from cachefl_jax.simulation.prepare import Inputs

if TYPE_CHECKING:
    from cachefl_jax.simulation.regimes import Run

TRAINED_APART = ("alone", "centralized", "features_once", "fine_tuned")


def local_only(run: "Run", learner: Learner, row: Row, engine: Engine | None) -> dict:
    """Each client by itself for as many rounds, on the same test rows; the mean over clients, unweighted."""
    config, count, local = run.config, learner.clients, learner.local
    local = local._replace(work=by_itself(local.work))
    devices = local_devices(config, learner)
    problem, _ = local_problem(run.inputs, learner, engine, devices)
    population = Population(local, problem, learner.client_rows, devices, learner.params, range(config.rounds))
    scores, seconds = LocalOnly(run, learner, row, population).train()
    down, arrays = tree_bytes(learner.local.work.travelling(learner.params)), (learner.params, learner.problem)
    return result(
        scores | told_of(row, learner.method), (0, down, down * count), rounds=config.rounds,
        flops=costs.round_flops(local, *arrays, learner.client_rows) + costs.solve_flops(local, *arrays),
        seconds=seconds,
    )  # fmt: skip


def local_devices(config: ConfigDict, learner: Learner) -> int:
    """How many of this process's devices train clients that never aggregate."""
    most = max((config.engine.devices or jax.device_count()) // jax.process_count(), 1)
    return min(most, learner.clients)


def fine_tuned(run: "Run", learner: Learner, row: Row, federated: dict, params) -> dict:
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


def centralized(run: "Run", learner: Learner, row: Row, engine: Engine | None) -> dict:
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


def features_once(run: "Run", learner: Learner, row: Row) -> dict:
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
