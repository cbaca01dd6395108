"""Prompts through the text tower (PromptFL, FedTPG) and their training, against transformers' towers in torch.

Axis letters: B batch, N classes, M context vectors, T tokens, W the text tower's width, D features.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch_towers import VOCABULARY, clip_config, siglip_config, torch_model

from cachefl_jax.clip import load_clip
from cachefl_jax.clip.encoder import Encoder
from cachefl_jax.config import changed, default, resolve
from cachefl_jax.federation import (
    CLIENT_OPTIMIZERS,
    Clients,
    Cohort,
    Federation,
    Hyper,
    LocalTraining,
    Plan,
    Problem,
    ServerHyper,
    init_server,
    make_round,
    plan_batches,
)
from cachefl_jax.methods import Rows, Server, find_method, prompt_fl
from cachefl_jax.methods.method import training_loss

pytestmark = pytest.mark.quick

NAMES = ("cat", "sea lion", "dog", "old red barn", "ox")
LEXICON = ["x", ".", "a", "photo", "of", "cat", "sea", "lion", "dog", "old", "red", "barn", "ox"]
SIZES = [7, 3, 10]  # rows of each client
SCALE, RATE, EPSILON, DECAY, ROUNDS, EPOCHS, BATCH = 10.0, 0.01, 1e-4, 0.1, 3, 2, 4


class Words:
    """A tokenizer of whole words; CLIP's texts have a start token, SigLIP's none."""

    end = VOCABULARY - 1

    def __init__(self, start: int | None, length: int):
        self.start, self.length = start, length

    def __call__(self, texts) -> np.ndarray:
        first = [] if self.start is None else [self.start]
        rows = [[*first, *(3 + LEXICON.index(word) for word in each.replace(".", " .").split())] for each in texts]
        filled = [[*row, self.end, *[0] * self.length][: self.length] for row in rows]
        return np.array(filled, np.int32)


class World:
    """A checkpoint in torch and as ours, and a server that has it."""

    def __init__(self, config, folder, **fields):
        self.torch = torch_model(config)
        self.torch.save_pretrained(folder)
        clip = config.model_type == "clip"
        words = Words(VOCABULARY - 2 if clip else None, config.text_config.max_position_embeddings)
        self.encoder = Encoder("tiny", load_clip(folder), words, None, 32)
        text, _ = rows_of(config.text_config.projection_size if not clip else config.projection_dim, len(NAMES))
        self.server = Server(text[:, None], text, SCALE, NAMES, lambda: self.encoder, ("a photo of {}.",))
        self.config = resolve(changed(default(), {"method": "prompt_fl", **fields}))
        self.method = find_method(self.config.method)
        self.start, self.frozen = (make(self.server, self.config) for make in (self.method.init, self.method.freeze))
        self.first = int(clip)
        self.torch.double()

    def context_of(self, params: list[torch.Tensor]) -> torch.Tensor:
        """[M, W] or [N, M, W]: PromptFL's params, or what FedTPG's network makes of the class names."""
        if len(params) == 1:
            return params[0]
        queries, keys, values, hidden, bias, output = params
        names, words = (torch.tensor(array).double() for array in (self.server.text, self.frozen.words))
        near = torch.softmax(queries @ (names @ keys).T / names.shape[1] ** 0.5, dim=1)
        return words + torch.nn.functional.gelu(near @ (names @ values) @ hidden + bias) @ output

    def class_weights(self, params: list[torch.Tensor]) -> torch.Tensor:
        """[N, D] by torch: the context in place of the stand-ins' or the template's embeddings."""
        context = self.context_of(params)
        count = context.shape[-2]
        words = "x " * count if self.config.prompt_fl.context else "a photo of "
        ids = torch.tensor(self.encoder.tokenizer([f"{words}{name}." for name in NAMES])).long()

        def exchange(module, given, embedded):
            own = context.expand(len(NAMES), *context.shape[-2:])
            return torch.cat([embedded[:, : self.first], own, embedded[:, self.first + count :]], dim=1)

        hook = self.torch.text_model.embeddings.token_embedding.register_forward_hook(exchange)
        try:
            features = self.torch.get_text_features(input_ids=ids).pooler_output
        finally:
            hook.remove()
        return torch.nn.functional.normalize(features, dim=1)

    def our_class_weights(self, params) -> np.ndarray:
        """[N, D] by our method: the logits of features that have one number each."""
        width = self.server.text.shape[1]
        rows = Rows(np.zeros(width, np.int32), np.eye(width, dtype=np.float32))
        return np.asarray(jax.jit(self.method.logits)(params, self.frozen, rows)).T / SCALE

    def loss(self, params: list[torch.Tensor], features: np.ndarray, labels: np.ndarray) -> torch.Tensor:
        """The mean cross-entropy of rows, []."""
        logits = SCALE * torch.tensor(features, dtype=torch.float64) @ self.class_weights(params).T
        return torch.nn.functional.cross_entropy(logits, torch.tensor(labels).long())


FORMS = {
    "template": {},
    "drawn": {"prompt_fl.context": 4},
    "class by class": {"prompt_fl.class_specific": True, "prompt_fl.context": 2},
    "generated": {"method": "fed_tpg", "fed_tpg.hidden": 6},
}


@pytest.fixture(scope="module", params=["template", "class by class", "generated"])
def world(request, tmp_path_factory) -> World:
    return World(clip_config(), tmp_path_factory.mktemp("clip"), **FORMS[request.param])


def moved(params):
    """Params that training may come to: each number another."""
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: leaf + 0.1 * rng.normal(size=leaf.shape).astype(np.float32), params)


def as_torch(params) -> list[torch.Tensor]:
    return [torch.tensor(np.asarray(leaf)).double() for leaf in jax.tree.leaves(params)]


def rows_of(width: int, count: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """(unit features [n, D] float32, labels [n])."""
    rng = np.random.default_rng(2)
    features = rng.normal(size=(count, width))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return features.astype(np.float32), rng.integers(len(NAMES), size=count).astype(np.int32)


def assert_weights_are_torchs(world: World) -> None:
    """At round 0 and after some moves."""
    for params in (world.start, moved(world.start)):
        with torch.no_grad():
            expected = world.class_weights(as_torch(params)).numpy()
        np.testing.assert_allclose(world.our_class_weights(params), expected, rtol=0, atol=1e-5)


def test_class_weights_are_those_of_transformers(world):
    assert_weights_are_torchs(world)
    prompt = getattr(world.frozen, "prompt", world.frozen)
    assert len(prompt.positions) < 16, "what stands after the last end is left out"


@pytest.mark.parametrize("fields", FORMS.values(), ids=FORMS)
def test_siglips_tower_gives_its_own(tmp_path, fields):
    """Texts without a start token, read at the last of all places, where every token counts."""
    assert_weights_are_torchs(World(siglip_config(20), tmp_path, **fields))


def test_gradients_are_the_differences_of_transformers_loss(world):
    """Central differences of the torch loss in float64, along a direction of every vector."""
    params, (features, labels) = moved(world.start), rows_of(16)
    loss = lambda params: training_loss(world.method)(params, world.frozen, Rows(labels, features)).mean()  # noqa: E731
    gradients = jax.tree.leaves(jax.device_get(jax.jit(jax.grad(loss))(params)))
    rng, step, own = np.random.default_rng(3), 1e-5, as_torch(params)
    for number, gradient in enumerate(gradients):
        for place in np.ndindex(gradient.shape[:-1]):
            direction = np.zeros(gradient.shape)
            direction[place] = rng.normal(size=gradient.shape[-1])
            sides = []
            for sign in (1, -1):
                shifted = [*own[:number], own[number] + sign * step * torch.tensor(direction), *own[number + 1 :]]
                with torch.no_grad():
                    sides.append(world.loss(shifted, features, labels).item())
            expected = (sides[0] - sides[1]) / (2 * step)
            assert (gradient * direction).sum() == pytest.approx(expected, rel=1e-3, abs=1e-5)
        assert np.abs(gradient).max() > 1e-4


def torch_rounds(world: World, optimizer: str) -> list[np.ndarray]:
    """The params after the rounds by plain PyTorch: clients one after another, batches as rows lie."""
    features, labels = rows_of(16)
    edges, server = np.cumsum([0, *SIZES]), as_torch(world.start)
    for _ in range(ROUNDS):
        total = [torch.zeros_like(leaf) for leaf in server]
        for start, end in itertools.pairwise(edges):
            params = [leaf.clone().requires_grad_() for leaf in server]
            make = functools.partial(torch.optim.AdamW, eps=EPSILON) if optimizer == "adamw" else torch.optim.SGD
            stepper = make(params, lr=RATE, weight_decay=DECAY)
            for _ in range(EPOCHS):
                for first in range(start, end, BATCH):
                    rows = slice(first, min(first + BATCH, end))
                    stepper.zero_grad()
                    world.loss(params, features[rows], labels[rows]).backward()
                    stepper.step()
            for change, own, before in zip(total, params, server, strict=True):
                change += (end - start) / edges[-1] * (own.detach() - before)
        server = [leaf + change for leaf, change in zip(server, total, strict=True)]
    return [leaf.numpy() for leaf in server]


def our_rounds(world: World, optimizer: str, plan: Plan) -> list[np.ndarray]:
    """The same by the engine."""
    features, labels = rows_of(16)
    batch, capacity = plan_batches(BATCH, max(SIZES))
    local = LocalTraining(
        training_loss(world.method), CLIENT_OPTIMIZERS[optimizer], EPOCHS, batch, capacity, shuffle=False
    )
    offsets = jnp.asarray(np.cumsum([0, *SIZES]), jnp.int32)
    clients = Clients(offsets, jnp.arange(sum(SIZES), dtype=jnp.int32))
    hyper = Hyper(*map(jnp.float32, (RATE, DECAY, 0.0, EPSILON)))
    data = Rows(jnp.asarray(labels), jnp.asarray(features))
    problem = Problem(clients, data, world.frozen, hyper, ServerHyper(jnp.float32(1.0)), jax.random.key(0))
    federation = Federation(local)
    state, one_round = init_server(federation, world.start, problem), make_round(federation, plan)
    cohort = Cohort(jnp.arange(len(SIZES), dtype=jnp.int32), jnp.int32(len(SIZES)))
    for _ in range(ROUNDS):
        state, _ = one_round(state, cohort, problem)
    return jax.tree.leaves(jax.device_get(state.params))


@pytest.mark.parametrize(
    ("world", "optimizer", "plan"),
    [
        ("template", "adamw", Plan("scan")),
        ("class by class", "sgd", Plan("chunk", 2)),
        ("generated", "adamw", Plan("scan")),
    ],
    indirect=["world"],
)
def test_three_rounds_end_where_a_torch_loop_does(world, optimizer, plan):
    found, expected = our_rounds(world, optimizer, plan), torch_rounds(world, optimizer)
    starts = jax.tree.leaves(world.start)
    assert max(np.abs(after - start).max() for after, start in zip(expected, starts, strict=True)) > 1e-2
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("world", ["class by class"], indirect=True)
def test_class_by_class_in_blocks_is_the_same(world, monkeypatch):
    """Blocks of two classes of five: the last one is filled up, and counts once."""
    params, (features, labels) = moved(world.start), rows_of(16)

    def value_and_slope():
        rows = Rows(labels, features)
        loss = lambda params: training_loss(world.method)(params, world.frozen, rows).mean()  # noqa: E731
        return jax.jit(jax.value_and_grad(loss))(params)

    whole = value_and_slope()
    monkeypatch.setattr(prompt_fl, "BLOCK_TOKENS", 2 * len(world.frozen.positions))
    blocks = value_and_slope()
    for one, other in zip(*map(jax.tree.leaves, (whole, blocks)), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)
