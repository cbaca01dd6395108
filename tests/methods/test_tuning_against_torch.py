"""Rounds of the methods that tune CLIP's towers, against PyTorch's loops in float64."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch_tuning import (
    OPTIMIZERS,
    Features,
    Task,
    Training,
    federated,
    full_logits,
    lora_logits,
    prompt_logits,
    small_checkpoint,
)

from cachefl_jax.clip.checkpoint import POCKET
from cachefl_jax.clip.weights import stored_tensors
from cachefl_jax.config import default, resolve
from cachefl_jax.config.components import fit_fields
from cachefl_jax.federation import place
from cachefl_jax.methods.lora import PLACES
from cachefl_jax.methods.method import leaves_by_name
from cachefl_jax.simulation.build import build
from cachefl_jax.simulation.filling import compiled, fill
from cachefl_jax.simulation.plans import plans_of
from cachefl_jax.simulation.prepare import Inputs, prepare
from cachefl_jax.templates import fill as filled

pytestmark = pytest.mark.quick

ROUNDS, BATCH = 3, 4
TEMPLATES = ("a photo of a {}.", "the digit {}")
LORA = {"lora.rank": 2, "lora.alpha": 1.0, "lora.projections": tuple(PLACES)}
CASES = {
    "full": ("full_fine_tuning", full_logits, {}),
    "full, scale frozen": ("full_fine_tuning", full_logits, {"full_fine_tuning.train_scale": False}),
    "LoRA": ("lora", lora_logits(2.0), {}),
    "LoRA everywhere": ("lora", lora_logits(0.5), LORA),
    "shallow prompts": ("visual_prompt", prompt_logits, {"visual_prompt.tokens": 3}),
    "deep prompts": ("visual_prompt", prompt_logits, {"visual_prompt.tokens": 2, "visual_prompt.deep": True}),
}


def config_of(case: str, **changes):
    """Few digits at clients of unequal sizes, their rows in a fixed order."""
    config, (name, _, fields) = default(), CASES[case]
    fit_fields(config, {"method": name, "compare": (name,)})
    config.data.shots, config.synthesis.source, config.synthesis.images_per_class = 3, "held_out", 1
    config.cache.keys_per_class, config.partition.clients, config.clip.templates = 1, 3, TEMPLATES
    config.partition.concentration, config.local.shuffle, config.local.batch_size = 1.0, False, BATCH
    config.engine.devices, config.engine.strategy, config.rounds, config.eval_every = 1, "scan", ROUNDS, ROUNDS
    config.update_from_flattened_dict(fields | changes)
    return resolve(config)


def trained(config, inputs: Inputs) -> tuple[dict, dict]:
    """Params by name, at the start and after all rounds; all weights as transformers has them."""
    learner = build(config, inputs, ordered=True)
    (plan,) = plans_of(config, learner)
    engine = fill(compiled(config, learner, plan), learner)
    state, metrics = engine.run(place(learner.start(), plan), jnp.asarray(ROUNDS, jnp.int32), engine.problem)
    assert metrics.finite
    named = stored_tensors if config.method == "full_fine_tuning" else lambda params: leaves_by_name(params, ())[0]
    return named(learner.params), named(state.params)


def task_of(inputs: Inputs, model: Features) -> Task:
    """The run's images as PyTorch's loop takes them, normalised in float64."""
    encoder, partition = inputs.server.encoder(), inputs.partition
    scale, mean, std = (np.asarray(getattr(encoder.preparation, name)) for name in ("scale", "mean", "std"))
    pixels = torch.as_tensor(((inputs.pixels("train") * scale - mean) / std).transpose(0, 3, 1, 2))
    clients = np.split(partition.indices, partition.offsets[1:-1])
    assert len({len(rows) for rows in clients}) > 1
    ids = [encoder.tokenizer([filled(each, name) for each in TEMPLATES]) for name in inputs.bank.class_names]
    return Task(
        model,
        pixels,
        torch.as_tensor(inputs.bank.train.labels.astype(np.int64)),
        clients,
        torch.as_tensor(np.array(ids)),
    )


def assert_same(config, inputs: Inputs, case: str, model: Features) -> None:
    """Ours and PyTorch's params within 1e-4 (of SGD 1e-5), after moving a hundred times as far."""
    start, ours = trained(config, inputs)
    given = {key: torch.as_tensor(np.array(value, np.float64)) for key, value in start.items()}
    optimizer = functools.partial(OPTIMIZERS[config.local.optimizer], rate=config.local.learning_rate)
    theirs = federated(task_of(inputs, model), Training(CASES[case][1], BATCH, optimizer), given, ROUNDS)
    assert ours.keys() == theirs.keys()
    moved = max(np.abs(ours[key] - start[key]).max() for key in start)
    worst = max(np.abs(ours[key] - theirs[key].numpy()).max() for key in start)
    print(f"largest difference {worst:.1e}, after moving {moved:.1e}")
    tolerance = 1e-5 if config.local.optimizer == "sgd" else 1e-4
    assert worst < tolerance
    assert moved > 100 * tolerance


@pytest.fixture(scope="module")
def small(own_store, tmp_path_factory) -> tuple[str, Features]:
    """(the folder of a small checkpoint, it in PyTorch)."""
    folder = tmp_path_factory.mktemp("clip") / "small"
    small_checkpoint(folder)
    return str(folder), Features(folder)


@pytest.mark.parametrize(
    ("case", "optimizer", "rate", "strategy"),
    [
        ("full", "adamw", 0.01, "vmap"),
        ("full, scale frozen", "sgd", 0.01, "scan"),
        ("LoRA", "adamw", 0.01, "chunk"),
        ("LoRA everywhere", "sgd", 0.3, "scan"),
        ("shallow prompts", "sgd", 0.3, "vmap"),
        ("deep prompts", "adamw", 0.01, "scan"),
    ],
)
def test_three_rounds_of_a_small_clip(small, case, optimizer, rate, strategy):
    (folder, model), decay = small, {"sgd": 0.0, "adamw": 1e-4}[optimizer]
    fields = {"local.optimizer": optimizer, "local.learning_rate": rate, "local.weight_decay": decay}
    engine = {"engine.strategy": strategy, "engine.client_chunk": 2 * (strategy == "chunk")}
    config = config_of(case, **fields, **engine, **{"clip.checkpoint": folder})
    assert_same(config, prepare(config), case, model)


@pytest.mark.parametrize("case", ["full", "LoRA"])
def test_three_rounds_of_the_pocket_clip_at_twenty_clients(own_store, case):
    config = config_of(
        case,
        **{"partition.clients": 20, "local.optimizer": "sgd", "local.learning_rate": 0.01, "local.weight_decay": 0.0},
    )
    assert_same(config, prepare(config), case, Features(POCKET))
