"""Federated algorithms over three rounds of unequal clients: the engine's against plain loops from the papers."""

import numpy as np
import pytest
import torch
from algorithm_cases import COHORTS, SIZES, TASKS
from torch_federation import (
    Solver,
    accumulation,
    federated,
    fednova,
    local_training,
    scaffold,
    uniform_mean,
)

PLAIN, MOMENTUM, PROXIMAL = Solver(0.05), Solver(0.03, momentum=0.8), Solver(0.05, proximal=2.0)
SOLVERS = {"plain": PLAIN, "momentum": MOMENTUM, "proximal": PROXIMAL}
by_solver = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)


@pytest.fixture(autouse=True)
def one_thread():
    """The matrices are small: torch's threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@by_solver
def test_reference_fednova_weights_gradients_as_the_solver_accumulates_them(solver):
    task = TASKS["cache"]
    start, batches = torch.tensor(task.start), task.batches(0, 4)
    params, gradients = local_training(task, solver, start, batches)
    expected = solver.learning_rate * accumulation(solver, len(batches)) @ gradients
    np.testing.assert_allclose(start - params, expected, rtol=0, atol=1e-12)


@by_solver
def test_reference_fednova_is_fedavg_where_all_clients_take_as_many_steps(solver):
    task = TASKS["cache"]
    equal = task._replace(batches=lambda number, client: task.batches(number, client)[:2])
    np.testing.assert_allclose(fednova(equal, solver, COHORTS), federated(equal, solver, COHORTS), rtol=0, atol=1e-12)
    assert (fednova(task, solver, COHORTS) - federated(task, solver, COHORTS)).abs().max() > 1e-3


def test_reference_scaffold_rests_where_the_mean_gradient_of_unequal_clients_is_zero():
    """FedAvg, whose clients take 1 to 5 steps, rests elsewhere: its fixed point depends on the steps."""
    task, solver = TASKS["softmax"], Solver(0.5)
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
