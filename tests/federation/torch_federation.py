"""Federated algorithms as plain PyTorch loops, each written from its paper: what the engine's are compared with.

Params are one vector [P] in float64; clients, rounds and steps are Python loops; gradients are autograd's. Nothing is
shared with the engine but the data and the order of the batches, which the caller hands over.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

Vector = torch.Tensor  # [P] float64
Aggregate = Callable[[torch.Tensor, torch.Tensor], Vector]  # (updates [M, P], numbers of rows [M]) -> [P]
Server = Callable[[Vector, Vector], Vector]  # (params, aggregate) -> params


class Task(NamedTuple):
    """What is trained, and by whom."""

    start: np.ndarray  # [P] the server's params before round 1
    loss: Callable[[Vector, np.ndarray], torch.Tensor]  # (params, numbers of rows [n]) -> mean loss of these rows, []
    sizes: np.ndarray  # [C] rows of each client
    batches: Callable[[int, int], list[np.ndarray]]  # (round, client) -> the rows of each local step, in order

    def weights(self, cohort: list[int]) -> torch.Tensor:
        """Rows of each client of the cohort, [M] float64."""
        return torch.tensor(self.sizes[cohort], dtype=torch.float64)


class Solver(NamedTuple):
    """A client's SGD: v <- momentum v + gradient, x <- x - learning_rate v, from v = 0 in every round."""

    learning_rate: float
    momentum: float = 0.0
    proximal: float = 0.0  # FedProx (1812.06127, eq. 2): the local loss gains proximal / 2 |x - server's x|^2


def zeros(task: Task) -> Vector:
    """A vector of zeros beside the params, [P]."""
    return torch.zeros(len(task.start)).double()


def local_training(
    task: Task, solver: Solver, server: Vector, batches: list[np.ndarray], correction: Vector | float = 0.0
) -> tuple[Vector, torch.Tensor]:
    """(params after a step on each batch [P], the loss's own gradient in each step [tau, P]).

    `correction` is added to each step's gradient.
    """
    params, velocity, gradients = server.clone(), torch.zeros_like(server), []
    for rows in batches:
        variable = params.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(task.loss(variable, rows), variable)
        gradients.append(gradient)
        velocity = solver.momentum * velocity + gradient + solver.proximal * (params - server) + correction
        params = params - solver.learning_rate * velocity
    return params, torch.stack(gradients)


def weighted_mean(updates: torch.Tensor, weights: torch.Tensor) -> Vector:
    """FedAvg (1602.05629, Algorithm 1): each client counts by its number of rows."""
    return (weights / weights.sum()) @ updates


def uniform_mean(updates: torch.Tensor, weights: torch.Tensor) -> Vector:
    """Every client counts the same."""
    del weights
    return updates.sum(0) / len(updates)


def total(updates: torch.Tensor, weights: torch.Tensor) -> Vector:
    """The sum of the updates."""
    del weights
    return updates.sum(0)


def median(updates: torch.Tensor, weights: torch.Tensor) -> Vector:
    """1803.01498, Definition 1: of each coordinate; of an even number, the mean of the two in the middle."""
    del weights
    count, ordered = len(updates), updates.sort(0).values
    return (ordered[(count - 1) // 2] + ordered[count // 2]) / 2


def trimmed_mean(share: float) -> Aggregate:
    """1803.01498, Definition 2: of each coordinate, without a share of the largest and the smallest, rounded down."""

    def aggregate(updates: torch.Tensor, weights: torch.Tensor) -> Vector:
        del weights
        cut = math.floor(share * len(updates))
        return updates.sort(0).values[cut : len(updates) - cut].mean(0)

    return aggregate


def clipped(norm: float) -> Callable[[Vector], Vector]:
    """An update longer than `norm` (Euclidean, over all params) is shortened to it."""
    return lambda update: update * min(1.0, norm / update.norm().item())


def averaged() -> Server:
    """The params move by the aggregate."""
    return lambda params, aggregate: params + aggregate


def fedavgm(learning_rate: float, momentum: float) -> Server:
    """FedAvgM (1909.06335, Section 4.2): v <- momentum v + aggregate; x <- x + learning_rate v."""
    velocity = 0.0

    def step(params: Vector, aggregate: Vector) -> Vector:
        nonlocal velocity
        velocity = momentum * velocity + aggregate
        return params + learning_rate * velocity

    return step


# The second moment of 2003.00295, Algorithm 2: (its last value, the squared aggregate, beta2) -> its next value.
SECOND_MOMENTS = {
    "adagrad": lambda last, square, beta2: last + square,
    "yogi": lambda last, square, beta2: last - (1 - beta2) * square * torch.sign(last - square),
    "adam": lambda last, square, beta2: beta2 * last + (1 - beta2) * square,
}


def adaptive(name: str, learning_rate: float, beta1: float, beta2: float, tau: float) -> Server:
    """FedAdagrad, FedYogi or FedAdam (2003.00295, Algorithm 2): m starts at 0, v at tau^2, and neither is corrected."""
    first, second = 0.0, torch.tensor(tau**2, dtype=torch.float64)

    def step(params: Vector, aggregate: Vector) -> Vector:
        nonlocal first, second
        first = beta1 * first + (1 - beta1) * aggregate
        second = SECOND_MOMENTS[name](second, aggregate**2, beta2)
        return params + learning_rate * first / (second.sqrt() + tau)

    return step


def client_updates(task: Task, solver: Solver, params: Vector, number: int, cohort: list[int]) -> torch.Tensor:
    """How far each client of round `number` moves the params, [M, P]."""
    trained = [local_training(task, solver, params, task.batches(number, client))[0] for client in cohort]
    return torch.stack(trained) - params


def federated(
    task: Task,
    solver: Solver,
    cohorts: Sequence[list[int]],
    *,
    transform: Callable[[Vector], Vector] = lambda update: update,
    aggregate: Aggregate = weighted_mean,
    server: Callable[[], Server] = averaged,
) -> Vector:
    """Params after a round for each cohort: every client's update is transformed, then all are aggregated."""
    params, server = torch.tensor(task.start), server()
    for number, cohort in enumerate(cohorts):
        updates = [transform(update) for update in client_updates(task, solver, params, number, cohort)]
        params = server(params, aggregate(torch.stack(updates), task.weights(cohort)))
    return params


class Drift(NamedTuple):
    """How far the clients of a round part, each counted by its rows."""

    update_norm: float  # mean |d_c|
    cosine: float  # mean of |d_c| cos(d_c, mean update), over mean |d_c|
    diversity: float  # sum |w_c d_c|^2 / |sum w_c d_c|^2 (gradient diversity, 1706.05699, Definition 1)


def drift(updates: np.ndarray, weights: np.ndarray) -> Drift:
    """The drift of updates [M, P] with weights [M], by NumPy."""
    shares = weights / weights.sum()
    norms, mean = np.sqrt((updates**2).sum(1)), np.average(updates, axis=0, weights=weights)
    cosines = updates @ mean / (norms * np.sqrt((mean**2).sum()))
    weighted = shares[:, None] * updates
    diversity = (weighted**2).sum() / (weighted.sum(0) ** 2).sum()
    return Drift(shares @ norms, (shares * norms) @ cosines / (shares @ norms), diversity)


class Scaffold(NamedTuple):
    """The state of SCAFFOLD."""

    params: Vector  # x [P]
    server: Vector  # c [P]
    clients: torch.Tensor  # c_i [C, P]


def scaffold(task: Task, solver: Solver, cohorts: Sequence[list[int]], by_rows: bool = False) -> Scaffold:
    """SCAFFOLD (1910.06378, Algorithm 1, option II for the control variates; global learning rate 1).

    The paper's objective is the clients' uniform mean: x moves by the cohort's mean and c by |S| / N times it, so that
    c stays the mean of all c_i. `by_rows` weighs clients by their rows in both. A client's K is its own steps.
    """
    weights = torch.tensor(task.sizes).double() if by_rows else torch.ones(len(task.sizes)).double()
    state = Scaffold(torch.tensor(task.start), zeros(task), torch.zeros(len(task.sizes), len(task.start)).double())
    for number, cohort in enumerate(cohorts):
        change, control, clients = zeros(task), zeros(task), state.clients.clone()
        for client in cohort:
            batches, own = task.batches(number, client), state.clients[client]
            params, _ = local_training(task, solver, state.params, batches, state.server - own)
            clients[client] = own - state.server + (state.params - params) / (len(batches) * solver.learning_rate)
            change += weights[client] / weights[cohort].sum() * (params - state.params)
            control += weights[client] / weights.sum() * (clients[client] - own)
        state = Scaffold(state.params + change, state.server + control, clients)
    return state


def accumulation(solver: Solver, steps: int) -> torch.Tensor:
    """FedNova's a_i [tau]: the weight of each step's gradient in the client's update (2007.07481, Section 3)."""
    left = torch.arange(steps - 1, -1, -1, dtype=torch.float64)  # steps after this one
    if solver.momentum and solver.proximal:
        raise ValueError("the paper gives a_i for momentum and for a proximal term, not for both")
    if solver.momentum:
        return (1 - solver.momentum ** (left + 1)) / (1 - solver.momentum)
    return (1 - solver.learning_rate * solver.proximal) ** left


def fednova(
    task: Task,
    solver: Solver,
    cohorts: Sequence[list[int]],
    transform: Callable[[Vector], Vector] = lambda update: update,
    aggregate: Aggregate = weighted_mean,
    mean: Aggregate = weighted_mean,
) -> Vector:
    """FedNova (2007.07481): x <- x - tau_eff sum_i p_i eta d_i with d_i = G_i a_i / |a_i|_1 and p_i by rows.

    tau_eff = sum_i p_i |a_i|_1, the paper's default: clients of equal numbers of steps give FedAvg. What a client
    sends, and what is transformed, is -eta d_i. Another `aggregate` of these goes with another `mean` of the |a_i|_1.
    """
    params = torch.tensor(task.start)
    for number, cohort in enumerate(cohorts):
        directions, lengths = [], []
        for client in cohort:
            batches = task.batches(number, client)
            gradients = local_training(task, solver, params, batches)[1]
            weights = accumulation(solver, len(batches))
            directions.append(transform(-solver.learning_rate * weights @ gradients / weights.sum()))
            lengths.append(weights.sum())
        rows = task.weights(cohort)
        params = params + mean(torch.stack(lengths), rows) * aggregate(torch.stack(directions), rows)
    return params
