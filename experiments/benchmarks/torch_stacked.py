"""The same rounds in PyTorch with all clients at once, as somebody writes them who wants the device busy: params with a
leading axis of clients, batched products, one call of autograd a step, optimizers by hand without a state that is not
needed.

Axis letters: C clients, B batch, N classes, K keys a class, D features.
"""

from collections.abc import Callable

import torch
from torch.nn import functional

from experiments.benchmarks import workloads

MOMENTS = (0.9, 0.999)  # AdamW's betas


def losses(keys: torch.Tensor, features: torch.Tensor, base: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The clients' mean losses added up, of keys [C, NK, D], features [C, B, D], text logits [C, B, N], labels."""
    affinities = torch.exp(-workloads.BETA * (1 - torch.bmm(features, keys.transpose(1, 2))))
    logits = base + workloads.ALPHA * affinities.view(*base.shape, -1).sum(3)
    return functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum") / labels.shape[1]


def sgd(keys: torch.Tensor, gradient: torch.Tensor, state: tuple, rate: float) -> tuple[torch.Tensor, tuple]:
    """(keys after a step, state)."""
    return keys - rate * gradient, state


def adamw(keys: torch.Tensor, gradient: torch.Tensor, state: tuple, rate: float) -> tuple[torch.Tensor, tuple]:
    """As `sgd`; the state is empty before the first step."""
    (first, second), steps = MOMENTS, (state[2] if state else 0) + 1
    mean, square = (1 - first) * gradient, (1 - second) * gradient * gradient
    if state:
        mean, square = mean + first * state[0], square + second * state[1]
    direction = (mean / (1 - first**steps)) / ((square / (1 - second**steps)).sqrt() + workloads.EPSILON)
    return keys * (1 - rate * workloads.WEIGHT_DECAY) - rate * direction, (mean, square, steps)


def stacked(
    workload: workloads.Workload, arrays: workloads.Arrays, optimizer: str, device: str, compiled: bool = False
) -> tuple[Callable[[], None], Callable[[], torch.Tensor]]:
    """(one round of clients of equal size, () -> the server's keys [NK, D]); `compiled`: the loss by torch.compile."""
    shape, update = (workload.clients, workload.samples), {"sgd": sgd, "adamw": adamw}[optimizer]
    features = torch.from_numpy(arrays.features).to(device).view(*shape, -1)
    labels = torch.from_numpy(arrays.labels).long().to(device).view(shape)
    base = workloads.LOGIT_SCALE * features @ torch.from_numpy(arrays.text).to(device).T
    server = torch.from_numpy(arrays.keys).to(device).flatten(0, 1).clone()
    loss = torch.compile(losses) if compiled else losses

    def one_round() -> None:
        nonlocal server
        keys, state = server.expand(workload.clients, -1, -1).contiguous(), ()
        for _ in range(workload.epochs):
            for first in range(0, workload.samples, workload.batch):
                batch = [rows[:, first : first + workload.batch] for rows in (features, base, labels)]
                keys = keys.detach().requires_grad_(True)
                (gradient,) = torch.autograd.grad(loss(keys, *batch), keys)
                with torch.no_grad():
                    keys, state = update(keys, gradient, state, workload.learning_rate)
        server = server + (keys.detach() - server).mean(0)

    return one_round, lambda: server
