"""Methods on features as a plain PyTorch federation in float64, each written from its formula; nothing is shared with
the package but the params at round 0 and who holds which rows.

Params are a list of tensors, in the order of the method's own.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

EPSILON = 1e-4  # AdamW's


class World(NamedTuple):
    """What the server brings, float64 tensors, and the settings."""

    keys: torch.Tensor  # [N, K, D]
    text: torch.Tensor  # [N, D]
    scale: float
    settings: dict[str, float]  # the config's fields by name
    drawn: torch.Tensor | None = None  # [R, D], what cache_low_rank has frozen


def affinities(world: World, products: torch.Tensor) -> torch.Tensor:
    """exp(-beta (1 - f . key)), of any shape."""
    return torch.exp(-world.settings["cache.beta"] * (1 - products))


def cached(world: World, features: torch.Tensor, keys: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    """Tip-Adapter's logits, with its one-hot value matrix [N K, N]."""
    classes, per_class, width = keys.shape
    values = functional.one_hot(torch.arange(classes).repeat_interleave(per_class)).double()
    near = affinities(world, features @ keys.reshape(-1, width).T)
    return world.scale * features @ text.T + world.settings["cache.alpha"] * near @ values


def cache_values(world, params, features):
    keys, values = params
    near = affinities(world, features @ keys.reshape(-1, keys.shape[-1]).T)
    return world.scale * features @ world.text.T + world.settings["cache.alpha"] * near @ values


def cache_low_rank(world, params, features):
    left, right = params if len(params) == 2 else (*params, world.drawn)
    change = torch.einsum("nkr,rd->nkd", left, right)
    return cached(world, features, world.keys + change, world.text)


def cache_vector(world, params, features):
    return cached(world, features, world.keys + params[0].unsqueeze(1), world.text)


def best_channels(world: World, count: int, balance: float) -> list[int]:
    """APE's criterion with its sums written out."""
    text, scores = world.text.numpy(), []
    classes, width = text.shape
    for channel in range(width):
        column = text[:, channel]
        pairs = sum(column[i] * column[j] for i in range(classes) for j in range(classes) if i != j)
        variance = ((column - column.mean()) ** 2).mean()
        scores.append(balance * pairs / classes**2 - (1 - balance) * variance)
    return sorted(int(place) for place in np.argsort(scores)[:count])


def cache_channels(world, params, features):
    (residual,) = params
    channels = best_channels(world, residual.shape[1], world.settings["cache_channels.balance"])
    whole = torch.zeros_like(world.text).index_copy(1, torch.tensor(channels), residual)
    return cached(world, features, world.keys + whole.unsqueeze(1), world.text + whole)


def cache_scale(world, params, features):
    return cached(world, features * (1 + params[0]), world.keys, world.text)


def linear_probe(world, params, features):
    return world.settings["linear_probe.scale"] * features @ params[0].T


def task_res(world, params, features):
    weights = functional.normalize(world.text + world.settings["task_res.alpha"] * params[0], dim=1)
    return world.scale * features @ weights.T


def clip_adapter(world, params, features):
    down, up = params
    ratio = world.settings["clip_adapter.ratio"]
    answer = functional.relu(functional.linear(functional.relu(functional.linear(features, down)), up))
    blended = functional.normalize(ratio * answer + (1 - ratio) * features, dim=1)
    return world.scale * blended @ world.text.T


def fed_clip(world, params, features):
    hidden, hidden_bias, attention, attention_bias = params
    inner = torch.tanh(functional.linear(features, hidden, hidden_bias))
    weights = torch.softmax(functional.linear(inner, attention, attention_bias), dim=1)
    return world.scale * functional.normalize(weights * features, dim=1) @ world.text.T


def curvature_bounds(world: World) -> tuple[float, float]:
    """Half of the largest eigenvalue of the features' second moment, and of the texts' largest mean squared product."""
    features = world.keys.reshape(-1, world.keys.shape[-1])
    moment = features.T @ features / len(features)
    products = ((features @ world.text.T) ** 2).mean(dim=0)
    return torch.linalg.eigvalsh(moment)[-1].item() / 2, products.max().item() / 2


def lp_plus_plus(world, params, features):
    for_prototypes, for_weights = curvature_bounds(world)
    prototypes, weights = params[0] / for_prototypes**0.5, params[1] / for_weights**0.5
    return features @ prototypes.T + weights * (features @ world.text.T)


def local_prototypes(world, params, features):
    scale = world.settings["local_prototypes.scale"]
    return -scale * torch.cdist(features, params[0], compute_mode="donot_use_mm_for_euclid_dist") ** 2


LOGITS = {
    each.__name__: each
    for each in (
        cache_values, cache_low_rank, cache_vector, cache_channels, cache_scale, linear_probe, task_res, clip_adapter,
        fed_clip, lp_plus_plus, local_prototypes,
    )
}  # fmt: skip


class Held(NamedTuple):
    """The training rows and who holds them."""

    features: np.ndarray  # [n, D]
    labels: np.ndarray  # [n]
    clients: list[np.ndarray]  # each one's rows

    def batches(self, client: int, size: int) -> list[np.ndarray]:
        """The client's rows in their order."""
        rows = self.clients[client]
        return [rows[begin : begin + size] for begin in range(0, len(rows), size)]


class Training(NamedTuple):
    optimizer: str
    learning_rate: float
    batch_size: int
    rounds: int
    weight_decay: float


def federated(
    logits: Callable[[list[torch.Tensor], torch.Tensor], torch.Tensor],
    start: list[np.ndarray],
    held: Held,
    training: Training,
) -> list[np.ndarray]:
    """Params after the rounds, in each of which every client takes a step on each of its batches."""
    params = [torch.tensor(array, dtype=torch.float64) for array in start]
    features, labels = torch.tensor(held.features, dtype=torch.float64), torch.tensor(held.labels, dtype=torch.int64)
    sizes = np.asarray([len(rows) for rows in held.clients])
    for _ in range(training.rounds):
        found = []
        for client in range(len(sizes)):
            own = [tensor.clone().requires_grad_() for tensor in params]
            common = {"lr": training.learning_rate, "weight_decay": training.weight_decay}
            sgd = training.optimizer == "sgd"
            optimizer = torch.optim.SGD(own, **common) if sgd else torch.optim.AdamW(own, eps=EPSILON, **common)
            for rows in held.batches(client, training.batch_size):
                optimizer.zero_grad()
                functional.cross_entropy(logits(own, features[rows]), labels[rows]).backward()
                optimizer.step()
            found.append(own)
        shares = sizes / sizes.sum()
        params = [
            sum(share * one.detach() for share, one in zip(shares, leaf, strict=True))
            for leaf in zip(*found, strict=True)
        ]
    return [tensor.numpy() for tensor in params]
