"""Federated algorithms over three rounds of unequal clients: the engine's against plain loops from the papers."""

from collections.abc import Callable

import jax
import numpy as np
import pytest
import torch
from algorithm_cases import CASES, COHORTS, SIZES, Parts, engine_rounds, flat
from jax.flatten_util import ravel_pytree
from torch_federation import (
    Solver,
    Task,
    accumulation,
    adaptive,
    client_updates,
    clipped,
    drift,
    fedavgm,
    federated,
    fednova,
    local_training,
    median,
    scaffold,
    total,
    trimmed_mean,
    uniform_mean,
)

from cachefl_jax.federation import PartHyper, ServerHyper

pytestmark = pytest.mark.quick

Reference = Callable[[Task, list[list[int]]], torch.Tensor]  # (task, cohorts) -> params [P]
TOLERANCE = 1e-5
PLAIN, MOMENTUM, PROXIMAL = Solver(0.1), Solver(0.03, momentum=0.8), Solver(0.1, proximal=2.0)
SOLVERS = {"plain": PLAIN, "momentum": MOMENTUM, "proximal": PROXIMAL}
by_solver = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
TASK = CASES["cache"].task


@pytest.fixture(autouse=True)
def one_thread():
    """The matrices are small: torch's threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@by_solver
def test_reference_fednova_weights_gradients_as_the_solver_accumulates_them(solver):
    start, batches = torch.tensor(TASK.start), TASK.batches(0, 4)
    params, gradients = local_training(TASK, solver, start, batches)
    expected = solver.learning_rate * accumulation(solver, len(batches)) @ gradients
    np.testing.assert_allclose(start - params, expected, rtol=0, atol=1e-12)


@by_solver
def test_reference_fednova_is_fedavg_where_all_clients_take_as_many_steps(solver):
    equal = TASK._replace(batches=lambda number, client: TASK.batches(number, client)[:2])
    np.testing.assert_allclose(fednova(equal, solver, COHORTS), federated(equal, solver, COHORTS), rtol=0, atol=1e-12)


def test_reference_scaffold_rests_where_the_mean_gradient_of_unequal_clients_is_zero():
    """FedAvg, whose clients take 1 to 5 steps, rests elsewhere: its fixed point depends on the steps."""
    task, solver = CASES["softmax"].task, Solver(0.5)
    ends = np.cumsum(SIZES)
    full = task._replace(batches=lambda number, client: [np.arange(ends[client] - SIZES[client], ends[client])])
    rounds = [[0, 1, 2, 3, 4]] * 300
    steps = full._replace(batches=lambda number, client: full.batches(number, client) * (1 + client))

    def mean_gradient(params: torch.Tensor) -> float:
        variable = params.clone().requires_grad_()
        loss = sum(task.loss(variable, full.batches(0, client)[0]) for client in range(len(SIZES))) / len(SIZES)
        return float(torch.autograd.grad(loss, variable)[0].norm())

    assert mean_gradient(scaffold(steps, solver, rounds).params) < 1e-4
    assert mean_gradient(federated(steps, solver, rounds, aggregate=uniform_mean)) > 1e-2


def by_average(solver: Solver = PLAIN, **how) -> Reference:
    return lambda task, cohorts: federated(task, solver, cohorts, **how)


def by_fednova(solver: Solver, **how) -> Reference:
    return lambda task, cohorts: fednova(task, solver, cohorts, **how)


def by_adaptive(name: str, beta1: float) -> tuple[Parts, Reference]:
    """Both sides of an adaptive server."""
    parts = Parts(PLAIN, server=name, server_hyper=ServerHyper(0.1, beta1, 0.9, 0.01))
    return parts, by_average(server=lambda: adaptive(name, 0.1, beta1, 0.9, 0.01))


LIMIT = 0.1  # a norm that some clients' updates have and others do not
CLIP = {"transforms": ("clip",), "part_hyper": PartHyper((LIMIT,))}
CLIPPED_STEPS = Parts(MOMENTUM, "fednova", transforms=("clip",), part_hyper=PartHyper((0.006,)))
TRIM = Parts(PLAIN, aggregation="trimmed_mean", part_hyper=PartHyper((), 0.4))
# The engine's parts, and the same by the plain loops.
PAIRS = {
    "fedavg": (Parts(PLAIN), by_average()),
    "uniform": (Parts(PLAIN, aggregation="uniform"), by_average(aggregate=uniform_mean)),
    "sum": (Parts(PLAIN, aggregation="sum"), by_average(aggregate=total)),
    "median": (Parts(PLAIN, aggregation="median"), by_average(aggregate=median)),
    "trimmed-mean": (TRIM, by_average(aggregate=trimmed_mean(0.4))),
    "clip": (Parts(PLAIN, **CLIP), by_average(transform=clipped(LIMIT))),
    "clip-median": (Parts(PLAIN, aggregation="median", **CLIP), by_average(aggregate=median, transform=clipped(LIMIT))),
    "fednova": (Parts(PLAIN, "fednova"), by_fednova(PLAIN)),
    "fednova-momentum": (Parts(MOMENTUM, "fednova"), by_fednova(MOMENTUM)),
    "fednova-proximal": (Parts(PROXIMAL, "fednova"), by_fednova(PROXIMAL)),
    "fednova-sum": (Parts(PLAIN, "fednova", "sum"), by_fednova(PLAIN, aggregate=total, mean=uniform_mean)),
    "clip-fednova": (CLIPPED_STEPS, by_fednova(MOMENTUM, transform=clipped(0.006))),
    "scaffold": (Parts(PLAIN, "scaffold"), lambda task, cohorts: scaffold(task, PLAIN, cohorts, by_rows=True).params),
}
MOMENTUM_SERVER = Parts(PLAIN, server="momentum", server_hyper=ServerHyper(0.7, 0.5))
SERVERS = {
    "fedavgm": (MOMENTUM_SERVER, by_average(server=lambda: fedavgm(0.7, 0.5))),
    "fedadagrad": by_adaptive("adagrad", 0.0),
    "fedadam": by_adaptive("adam", 0.6),
    "fedyogi": by_adaptive("yogi", 0.6),
}
RUNS = [
    *(("softmax", "chunk", name) for name in PAIRS | SERVERS),
    *(("cache", "scan", name) for name in ("sum", "median", "clip-fednova", "fednova-proximal", "scaffold")),
    *(("cache", "vmap", name) for name in ("trimmed-mean", "clip-median", "fednova-momentum")),
    *(("cache", "devices", name) for name in ("median", "scaffold")),
    *(("wide", "dual", name) for name in ("uniform", "clip-fednova")),
]


def rounds(case: str, plan: str, parts: Parts, cohorts: list[list[int]] = COHORTS):
    """`engine_rounds`; by some plans drift is measured, which must change nothing else."""
    return engine_rounds(case, plan, parts._replace(drift=plan in ("scan", "vmap", "dual")), cohorts)


@pytest.mark.parametrize(("case", "plan", "name"), RUNS)
def test_params_are_those_of_the_plain_loop(case, plan, name):
    task, (parts, reference) = CASES[case].task, (PAIRS | SERVERS)[name]
    expected, fedavg = reference(task, COHORTS), by_average()(task, COHORTS)
    assert name == "fedavg" or (expected - fedavg).abs().max() > 1e-3, "FedAvg would pass"
    state, _ = rounds(case, plan, parts)
    np.testing.assert_allclose(flat(state.params), expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("mean", ["uniform", "mean"])
@pytest.mark.parametrize(("case", "plan"), [("cache", "scan"), ("softmax", "chunk")])
def test_control_variates_are_those_of_the_plain_loop(case, plan, mean):
    """The server's and every client's, also where clients count by their rows."""
    expected = scaffold(CASES[case].task, PLAIN, COHORTS, by_rows=mean == "mean")
    state, _ = rounds(case, plan, Parts(PLAIN, "scaffold", mean))
    controls = jax.vmap(lambda own: ravel_pytree(own)[0])(state.clients[0])
    assert expected.clients.abs().amax(1).min() > 0.01
    for ours, theirs in zip((flat(state.params), flat(state.shared), controls), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", ["fedavg", "sum", "median", "trimmed-mean", "clip", "fednova", "scaffold"])
def test_a_cohort_may_have_any_size(name):
    """Two clients, none, one, all. Where nobody comes nothing changes."""
    cohorts, (parts, reference), task = [[4, 1], [], [3], [3, 0, 2, 4, 1]], PAIRS[name], CASES["softmax"].task
    attended = [number for number, cohort in enumerate(cohorts) if cohort]
    numbered = task._replace(batches=lambda number, client: task.batches(attended[number], client))
    state, told = rounds("softmax", "chunk", parts, cohorts)
    expected = reference(numbered, [cohorts[number] for number in attended])
    np.testing.assert_allclose(flat(state.params), expected, rtol=0, atol=TOLERANCE)
    assert [int(metrics.clients) for metrics in told] == [2, 0, 1, 5]


@pytest.mark.parametrize(("case", "plan", "name"), [run for run in RUNS if run[1] in ("scan", "vmap", "dual")])
def test_drift_is_of_the_changes_before_any_transform_by_the_weights_of_the_aggregate(case, plan, name):
    task, (parts, reference) = CASES[case].task, PAIRS[name]
    _, told = rounds(case, plan, parts)
    for number, cohort in enumerate(COHORTS[:1] if name == "scaffold" else COHORTS):  # later, its gradients are others
        updates = client_updates(task, parts.solver, reference(task, COHORTS[:number]), number, cohort).numpy()
        weights = SIZES[cohort] if parts.aggregation == "mean" else np.ones(len(cohort))
        np.testing.assert_allclose(told[number].drift, drift(updates, weights), rtol=1e-4)
