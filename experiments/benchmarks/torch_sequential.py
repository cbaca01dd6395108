"""The same rounds as a user's own loop in PyTorch: one client after another, each on a copy of the model.

    PYTHONPATH=. /path/to/python -m experiments.benchmarks.torch_sequential --workload=imagenet --optimizer=adamw

Needs torch and NumPy alone. As in Tip-Adapter's script, a class's affinities are added up by a product with one-hot
values; --sums does it by a view, which is cheaper. Prints one JSON line.
"""

import argparse
import copy
import json
from collections.abc import Callable

import torch
from torch.nn import functional

from cachefl_jax.machine import cores
from experiments.benchmarks import readings, workloads


class CacheModel(torch.nn.Module):
    """z = s f . text + alpha sum_k exp(-beta (1 - f . key)), the keys trained."""

    def __init__(self, keys: torch.Tensor):
        super().__init__()
        self.classes = keys.shape[0]
        self.keys = torch.nn.Parameter(keys.flatten(0, 1).clone())  # [NK, D]

    def forward(self, features: torch.Tensor, text: torch.Tensor, values: torch.Tensor | None) -> torch.Tensor:
        affinities = torch.exp(-workloads.BETA * (1 - features @ self.keys.T))
        by_class = affinities.view(len(features), self.classes, -1)
        votes = by_class.sum(2) if values is None else affinities @ values
        return workloads.LOGIT_SCALE * features @ text.T + workloads.ALPHA * votes


def make_optimizer(name: str, model: torch.nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    if name == "sgd":
        return torch.optim.SGD(model.parameters(), learning_rate)
    adamw = {"eps": workloads.EPSILON, "weight_decay": workloads.WEIGHT_DECAY}
    return torch.optim.AdamW(model.parameters(), learning_rate, **adamw)


def train_client(model: CacheModel, optimizer: torch.optim.Optimizer, batches, *constants) -> None:
    for features, labels in batches:
        optimizer.zero_grad()
        functional.cross_entropy(model(features, *constants), labels).backward()
        optimizer.step()


def sequential(
    workload: workloads.Workload, arrays: workloads.Arrays, optimizer: str, device: str = "cpu", sums: bool = True
) -> tuple[Callable[[], None], torch.nn.Parameter]:
    """(one round, the server's keys [NK, D]) on a device; `sums`: a class's affinities added up by a view."""
    text = torch.from_numpy(arrays.text).to(device)
    features = torch.from_numpy(arrays.features).to(device).split(workload.samples)
    labels = torch.from_numpy(arrays.labels).long().to(device).split(workload.samples)
    server = CacheModel(torch.from_numpy(arrays.keys)).to(device)
    values = None if sums else torch.eye(workload.classes, device=device).repeat_interleave(workload.keys, 0)  # one-hot

    def one_round() -> None:
        total = torch.zeros_like(server.keys.data)
        for rows, answers in zip(features, labels, strict=True):
            model = copy.deepcopy(server)
            stepper = make_optimizer(optimizer, model, workload.learning_rate)
            for _ in range(workload.epochs):
                batches = zip(rows.split(workload.batch), answers.split(workload.batch), strict=True)
                train_client(model, stepper, batches, text, values)
            total += model.keys.data - server.keys.data
        server.keys.data += total / workload.clients

    return one_round, server.keys


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--workload", choices=list(workloads.WORKLOADS), default="small")
    parser.add_argument("--optimizer", choices=workloads.OPTIMIZERS, default="sgd")
    parser.add_argument("--rounds", type=int, default=0, help="0 = the workload's")
    parser.add_argument("--threads", type=int, default=0, help="0 = one a core")
    parser.add_argument("--sums", action="store_true", help="add up a class's affinities by a view")
    options = parser.parse_args()
    workload = workloads.WORKLOADS[options.workload]
    rounds = options.rounds or workload.rounds
    torch.set_num_threads(options.threads or cores())
    arrays = workloads.make(workload)
    start = arrays.keys.copy()
    one_round, keys = sequential(workload, arrays, options.optimizer, sums=options.sums)

    def step(count: int) -> None:
        for _ in range(count):
            one_round()

    result = readings.timed_rounds(step, rounds) | {"peak_bytes": readings.peak_bytes()}
    told = {"tag": "torch, one client after another", "workload": options.workload, "optimizer": options.optimizer}
    found = workloads.fingerprint(keys.detach().numpy(), start)
    print(json.dumps(told | {"rounds": rounds} | result | found))


if __name__ == "__main__":
    main()
