"""Methods that tune CLIP's towers as plain PyTorch loops on transformers' CLIPModel, in float64: what ours are held to.

Every method is a function of named parameters to logits; clients, rounds and steps are Python loops; gradients are
autograd's. Nothing is shared with the engine but the images, who holds which, and where params start.
"""

import copy
import pathlib
import shutil
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.func import functional_call
from transformers import CLIPConfig, CLIPModel

from cachefl_jax.clip.checkpoint import POCKET

Params = dict[str, torch.Tensor]
TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}


class Features(torch.nn.Module):
    """A CLIP as a module whose call gives unit features, so that `functional_call` may exchange its weights."""

    def __init__(self, directory: pathlib.Path):
        super().__init__()
        self.clip = CLIPModel.from_pretrained(directory).double().eval()

    def forward(self, name: str, given: torch.Tensor) -> torch.Tensor:
        if name == "image":
            return unit(self.clip.visual_projection(self.clip.vision_model(given).pooler_output))
        return unit(self.clip.text_projection(self.clip.text_model(given).pooler_output))


class Task(NamedTuple):
    """A federation of images."""

    model: Features
    pixels: torch.Tensor  # [n, 3, H, W] normalised
    labels: torch.Tensor  # [n]
    clients: Sequence[np.ndarray]  # the rows of each
    ids: torch.Tensor  # [N, P, T] of every class's texts


def small_checkpoint(directory: pathlib.Path) -> None:
    """A CLIP of two blocks an image, one a text, with random weights everywhere and the pocket CLIP's words."""
    shutil.copytree(POCKET, directory)
    (directory / "model.safetensors").unlink()
    config = CLIPConfig.from_pretrained(POCKET)
    config.vision_config.update({**TOWER, "num_hidden_layers": 2})
    config.text_config.update({**TOWER, "hidden_size": 24, "num_hidden_layers": 1})
    config.projection_dim = 12
    torch.manual_seed(0)
    model = CLIPModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(directory)


def unit(features: torch.Tensor) -> torch.Tensor:
    return features / features.norm(dim=-1, keepdim=True)


def called(task: Task, weights: Params, name: str, given: torch.Tensor) -> torch.Tensor:
    """Unit features by the task's CLIP with these of its weights exchanged."""
    return functional_call(task.model, {f"clip.{key}": value for key, value in weights.items()}, (name, given))


def class_weights(task: Task, weights: Params) -> torch.Tensor:
    """[N, D]: unit means of the unit features of each class's texts."""
    each = called(task, weights, "text", task.ids.flatten(0, 1)).reshape(*task.ids.shape[:2], -1)
    return unit(each.mean(dim=1))


def full_logits(task: Task, params: Params, pixels: torch.Tensor) -> torch.Tensor:
    """All weights are params."""
    scale = params.get("logit_scale", task.model.clip.logit_scale.detach())
    return scale.exp() * called(task, params, "image", pixels) @ class_weights(task, params).T


def frozen_logits(task: Task, features: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        text, scale = class_weights(task, {}), task.model.clip.logit_scale.exp()
    return scale * features @ text.T


def lora_logits(scale: float) -> Callable:
    """W + scale (A B)^T for every projection that has an A and a B; torch keeps W as [outputs, inputs]."""

    def logits(task: Task, params: Params, pixels: torch.Tensor) -> torch.Tensor:
        weights = {}
        for place in sorted({name.rpartition(".")[0] for name in params}):
            number, name = place.split(".")
            part = "mlp" if name.startswith("fc") else "self_attn"
            key = f"vision_model.encoder.layers.{number}.{part}.{name}.weight"
            change = params[f"{place}.A"] @ params[f"{place}.B"]
            weights[key] = task.model.clip.get_parameter(key).detach() + scale * change.T
        return frozen_logits(task, called(task, weights, "image", pixels))

    return logits


def prompt_logits(task: Task, params: Params, pixels: torch.Tensor) -> torch.Tensor:
    """Prompts stand between the class token and the patches, as in the paper's figure; deep ones replace what comes
    out at their places."""
    prompts, vision = params["prompts"], task.model.clip.vision_model
    count, hidden = prompts.shape[1], vision.pre_layrnorm(vision.embeddings(pixels))
    for number, layer in enumerate(vision.encoder.layers):
        if number < len(prompts):
            patches = hidden[:, 1 if number == 0 else 1 + count :]
            hidden = torch.cat([hidden[:, :1], prompts[number].expand(len(hidden), -1, -1), patches], dim=1)
        out = layer(hidden, None)
        hidden = out[0] if isinstance(out, tuple) else out
    pooled = vision.post_layernorm(hidden[:, 0])
    return frozen_logits(task, unit(task.model.clip.visual_projection(pooled)))


OPTIMIZERS = {
    "sgd": lambda params, rate: torch.optim.SGD(params, rate),
    "adamw": lambda params, rate: torch.optim.AdamW(params, rate, eps=1e-4, weight_decay=1e-4),
}


class Training(NamedTuple):
    """How a client trains."""

    logits: Callable[[Task, Params, torch.Tensor], torch.Tensor]  # (task, params, pixels [B, ...]) -> [B, N]
    batch: int
    optimizer: Callable[[list[torch.Tensor]], torch.optim.Optimizer]


def local_training(task: Task, training: Training, start: Params, rows: np.ndarray) -> Params:
    """A client's epoch, its batches in the order of its rows, the last one as small as it is."""
    own = {name: copy.deepcopy(value.detach()).requires_grad_() for name, value in start.items()}
    step = training.optimizer(list(own.values()))
    for first in range(0, len(rows), training.batch):
        picked = torch.as_tensor(rows[first : first + training.batch])
        step.zero_grad()
        found = training.logits(task, own, task.pixels[picked])
        torch.nn.functional.cross_entropy(found, task.labels[picked]).backward()
        step.step()
    return {name: value.detach() for name, value in own.items()}


def federated(task: Task, training: Training, start: Params, rounds: int) -> Params:
    """FedAvg: clients' params, each by its share of the rows."""
    total = sum(map(len, task.clients))
    for _ in range(rounds):
        trained = [local_training(task, training, start, rows) for rows in task.clients]
        shares = [len(rows) / total for rows in task.clients]
        start = {name: sum(w * one[name] for w, one in zip(shares, trained, strict=True)) for name in start}
    return start
