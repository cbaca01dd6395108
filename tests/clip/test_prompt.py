"""PromptFL's text tower and its training, against transformers' towers in torch.

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
from cachefl_jax.methods import Rows, Server, prompt_fl
from cachefl_jax.methods.method import training_loss

METHOD = prompt_fl.prompt_fl
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
        nothing = np.zeros((len(NAMES), 1, 16), np.float32)
        self.server = Server(nothing, nothing[:, 0], SCALE, NAMES, lambda: self.encoder, ("a photo of {}.",))
        self.config = resolve(changed(default(), {"method": "prompt_fl", "compare": ("prompt_fl",), **fields}))
        self.start, self.frozen = (make(self.server, self.config) for make in (METHOD.init, METHOD.freeze))
        self.first = int(clip)
        self.torch.double()

    def class_weights(self, context: torch.Tensor) -> torch.Tensor:
        """[N, D] by torch: the context in place of the stand-ins' or the template's embeddings."""
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

    def loss(self, context: torch.Tensor, features: np.ndarray, labels: np.ndarray) -> torch.Tensor:
        """The mean cross-entropy of rows, []."""
        logits = SCALE * torch.tensor(features, dtype=torch.float64) @ self.class_weights(context).T
        return torch.nn.functional.cross_entropy(logits, torch.tensor(labels).long())


FORMS = {
    "template": {},
    "drawn": {"prompt_fl.context": 4},
    "class by class": {"prompt_fl.class_specific": True, "prompt_fl.context": 2},
}


@pytest.fixture(scope="module", params=["template", "class by class"])
def world(request, tmp_path_factory) -> World:
    return World(clip_config(), tmp_path_factory.mktemp("clip"), **FORMS[request.param])


def moved(context: np.ndarray) -> np.ndarray:
    """A context that training may come to: each class's another, where each has its own."""
    return context + 0.1 * np.random.default_rng(1).normal(size=context.shape).astype(np.float32)


def rows_of(width: int, count: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """(unit features [n, D] float32, labels [n])."""
    rng = np.random.default_rng(2)
    features = rng.normal(size=(count, width))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return features.astype(np.float32), rng.integers(len(NAMES), size=count).astype(np.int32)


def test_class_weights_are_those_of_transformers(world):
    for context in (world.start.context, moved(world.start.context)):
        with torch.no_grad():
            expected = world.class_weights(torch.tensor(context).double()).numpy()
        found = jax.jit(prompt_fl.class_weights)(prompt_fl.Prompt(context), world.frozen)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert len(world.frozen.positions) < 16, "what stands after the last end is left out"


@pytest.mark.parametrize("fields", FORMS.values(), ids=FORMS)
def test_siglips_tower_gives_its_own(tmp_path, fields):
    """Texts without a start token, read at the last of all places, where every token counts."""
    world = World(siglip_config(20), tmp_path, **fields)
    context = moved(world.start.context)
    with torch.no_grad():
        expected = world.class_weights(torch.tensor(context).double()).numpy()
    found = jax.jit(prompt_fl.class_weights)(prompt_fl.Prompt(context), world.frozen)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert found.shape == (len(NAMES), 20)


def test_gradients_are_the_differences_of_transformers_loss(world):
    """Central differences of the torch loss in float64, along each class's and vector's own direction."""
    context, (features, labels) = moved(world.start.context), rows_of(16)
    loss = lambda prompt: training_loss(METHOD)(prompt, world.frozen, Rows(labels, features)).mean()  # noqa: E731
    gradient = np.asarray(jax.jit(jax.grad(loss))(prompt_fl.Prompt(context)).context)
    rng, step = np.random.default_rng(3), 1e-5
    for place in np.ndindex(context.shape[:-1]):
        direction = np.zeros(context.shape)
        direction[place] = rng.normal(size=context.shape[-1])
        with torch.no_grad():
            up, down = (
                world.loss(torch.tensor(context + sign * step * direction), features, labels).item() for sign in (1, -1)
            )
        assert (gradient * direction).sum() == pytest.approx((up - down) / (2 * step), rel=1e-3, abs=1e-5)
    assert np.abs(gradient).max() > 1e-2


def torch_rounds(world: World, optimizer: str) -> np.ndarray:
    """The context after the rounds by plain PyTorch: clients one after another, batches as rows lie."""
    features, labels = rows_of(16)
    edges, server = np.cumsum([0, *SIZES]), torch.tensor(world.start.context).double()
    for _ in range(ROUNDS):
        total = torch.zeros_like(server)
        for start, end in itertools.pairwise(edges):
            context = server.clone().requires_grad_()
            make = functools.partial(torch.optim.AdamW, eps=EPSILON) if optimizer == "adamw" else torch.optim.SGD
            stepper = make([context], lr=RATE, weight_decay=DECAY)
            for _ in range(EPOCHS):
                for first in range(start, end, BATCH):
                    rows = slice(first, min(first + BATCH, end))
                    stepper.zero_grad()
                    world.loss(context, features[rows], labels[rows]).backward()
                    stepper.step()
            total += (end - start) / edges[-1] * (context.detach() - server)
        server = server + total
    return server.numpy()


def our_rounds(world: World, optimizer: str, plan: Plan) -> np.ndarray:
    """The same by the engine."""
    features, labels = rows_of(16)
    batch, capacity = plan_batches(BATCH, max(SIZES))
    local = LocalTraining(training_loss(METHOD), CLIENT_OPTIMIZERS[optimizer], EPOCHS, batch, capacity, shuffle=False)
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
    return np.asarray(state.params.context)


@pytest.mark.parametrize(
    ("world", "optimizer", "plan"),
    [("template", "adamw", Plan("scan")), ("class by class", "sgd", Plan("chunk", 2))],
    indirect=["world"],
)
def test_three_rounds_end_where_a_torch_loop_does(world, optimizer, plan):
    expected = torch_rounds(world, optimizer)
    assert np.abs(expected - world.start.context).max() > 1e-2
    np.testing.assert_allclose(our_rounds(world, optimizer, plan), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("world", ["class by class"], indirect=True)
def test_class_by_class_in_blocks_is_the_same(world, monkeypatch):
    """Blocks of two classes of five: the last one is filled up, and counts once."""
    prompt, (features, labels) = prompt_fl.Prompt(moved(world.start.context)), rows_of(16)

    def value_and_slope():
        loss = lambda prompt: training_loss(METHOD)(prompt, world.frozen, Rows(labels, features)).mean()  # noqa: E731
        return jax.jit(jax.value_and_grad(loss))(prompt)

    whole = value_and_slope()
    monkeypatch.setattr(prompt_fl, "BLOCK_TOKENS", 2 * len(world.frozen.positions))
    blocks = value_and_slope()
    for one, other in zip(*map(jax.tree.leaves, (whole, blocks)), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)
