"""Methods that own a tower: one tunes the text tower's token embeddings, one the image tower's projection.

Both are written here as a user would, and prove that a method gets what it asks for: the run's CLIP, and images.

Axis letters: B batch, N classes, P templates, T tokens, V vocabulary, D features, H W image.
"""

import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

import cachefl_jax.clip
from cachefl_jax.clip.encoder import tokenized
from cachefl_jax.commands.evaluate import evaluate, stored_config
from cachefl_jax.config import default, resolve
from cachefl_jax.errors import UsageError
from cachefl_jax.methods import Method, Rows, Server, find_method, text_logits
from cachefl_jax.methods.method import training_loss
from cachefl_jax.methods.zero_shot import zero_shot
from cachefl_jax.simulation.build import build
from cachefl_jax.simulation.encoded import whole_encoder
from cachefl_jax.simulation.prepare import prepare
from cachefl_jax.simulation.shared import Shared
from cachefl_jax.simulation.train import train_and_evaluate

pytestmark = pytest.mark.quick


def taken_out(server, name: str) -> tuple:
    """(the run's CLIP without its arrays, the arrays of the layer `name`, all others)."""
    graph, own, others = nnx.split(server.encoder().model, lambda path, _: name in path, ...)
    return graph, nnx.to_pure_dict(own), nnx.to_pure_dict(others)


class TextSide(NamedTuple):
    """What the first method holds frozen."""

    graph: Any
    others: Any
    ids: jax.Array  # [N, P, T]
    logit_scale: jax.Array  # []


def freeze_text(server, config) -> TextSide:
    graph, _, others = taken_out(server, "token_embedding")
    ids = tokenized(server.encoder(), server.class_names, server.templates)
    shaped = ids.reshape(len(server.class_names), -1, ids.shape[-1])
    return TextSide(graph, others, shaped, np.float32(server.logit_scale))


def text_side_logits(params, frozen: TextSide, rows: Rows) -> jax.Array:
    """Zero-shot CLIP with class weights out of the tuned tower, [B, N]."""
    model = nnx.merge(frozen.graph, params, frozen.others)
    features = model.text_features(frozen.ids.reshape(-1, frozen.ids.shape[-1]))
    each = unit(features).reshape(*frozen.ids.shape[:2], -1)
    return frozen.logit_scale * rows.features @ unit(each.mean(axis=1)).T


def unit(features: jax.Array) -> jax.Array:
    return features / jnp.linalg.norm(features, axis=-1, keepdims=True)


prompts = Method(
    label="prompt tokens",
    init=lambda server, config: taken_out(server, "token_embedding")[1],  # [V, width]
    logits=text_side_logits,
    freeze=freeze_text,
)


class ImageSide(NamedTuple):
    """What the second method holds frozen."""

    graph: Any
    others: Any
    normalisation: tuple[jax.Array, ...]  # scale [], mean and deviation [1, 1, 1, 3] of pixels
    text: jax.Array  # [N, D]
    logit_scale: jax.Array  # []


def freeze_images(server, config) -> ImageSide:
    graph, _, others = taken_out(server, "visual_projection")
    preparation = server.encoder().preparation
    colours = (np.asarray(each, np.float32).reshape(1, 1, 1, 3) for each in (preparation.mean, preparation.std))
    normalisation = np.float32(preparation.scale), *colours
    return ImageSide(graph, others, normalisation, server.text, np.float32(server.logit_scale))


def image_side_logits(params, frozen: ImageSide, rows: Rows) -> jax.Array:
    """Zero-shot CLIP on the images themselves, [B, N]."""
    scale, mean, deviation = frozen.normalisation
    model = nnx.merge(frozen.graph, params, frozen.others)
    features = model.image_features((rows.images.astype(jnp.float32) * scale - mean) / deviation)
    return text_logits(frozen, Rows(rows.labels, unit(features)))


projection = Method(
    label="image projection",
    init=lambda server, config: taken_out(server, "visual_projection")[1],  # [width, D]
    logits=image_side_logits,
    freeze=freeze_images,
    inputs=("images",),
)


def config_of(name: str, **changes):
    """A config of few digits, whose method is in this file."""
    config = default()
    config.method = f"{pathlib.Path(__file__)}:{name}"
    config.compare = (config.method,)
    config.data.shots, config.synthesis.source, config.synthesis.images_per_class = 3, "held_out", 1
    config.cache.keys_per_class, config.partition.clients, config.rounds = 1, 2, 2
    config.local.optimizer, config.local.learning_rate, config.local.batch_size = "sgd", 0.1, 0
    config.engine.devices, config.engine.strategy = 1, "scan"
    config.update_from_flattened_dict(changes)
    return resolve(config)


@pytest.fixture(scope="module")
def inputs(own_store):
    return prepare(config_of("prompts"))


def test_text_weights_out_of_the_tower_are_zero_shots_and_its_tokens_learn(inputs):
    config = config_of("prompts")
    learner = build(config, inputs)
    rows, frozen = learner.score.test, learner.score.frozen
    plain = zero_shot.logits((), zero_shot.freeze(inputs.server, config), rows)
    found = jax.jit(prompts.logits)(learner.params, frozen, rows)
    np.testing.assert_allclose(found / frozen.logit_scale, plain / frozen.logit_scale, rtol=0, atol=1e-5)
    slope = jax.jit(jax.grad(lambda params: training_loss(prompts)(params, frozen, rows).mean()))(learner.params)
    used = np.unique(frozen.ids)
    (embedding,) = jax.tree.leaves(slope)
    moved = np.abs(embedding).max(axis=1) > 0
    assert moved[used].all()
    assert not np.delete(moved, used).any(), "tokens of no class name stay"


@pytest.mark.parametrize("views", [0, 2])
def test_logits_of_images_are_those_of_stored_features(views):
    config = config_of("projection", **{"clip.train_views": views})
    inputs = prepare(config)
    for ordered in (False, True):
        learner = build(config, inputs, ordered=ordered)
        data = learner.problem.data
        assert (data.features, data.text_logits) == (None, None)
        assert data.images.dtype == np.uint8
        features = inputs.bank.train.features if not views else inputs.bank.train_views.reshape(-1, inputs.bank.width)
        features = features[inputs_order(inputs, views)] if ordered else features
        for rows, stored in ((data, features), (learner.score.test, inputs.bank.test.features)):
            found = jax.jit(projection.logits)(learner.params, learner.score.frozen, rows)
            expected = learner.score.frozen.logit_scale * stored @ inputs.server.text.T
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def inputs_order(inputs, views: int) -> np.ndarray:
    """The bank's rows client after client, of all views."""
    count = len(inputs.bank.train.labels)
    return np.concatenate([inputs.partition.indices + view * count for view in range(max(views, 1))])


@pytest.mark.parametrize("name", ["prompts", "projection"])
def test_they_train_and_are_evaluated_from_their_folder(name, tmp_path):
    config, folder = config_of(name, rounds=1, **{"local.algorithm": "scaffold"}), tmp_path / "run"
    entry = train_and_evaluate(config, folder)["methods"][name]
    told = evaluate(stored_config(["evaluate", f"--workdir={folder}"]), folder, None)
    assert told["test_accuracy"] == entry["test_accuracy"]
    (start,) = jax.tree.leaves(find_method(config.method).init(prepare(config).server, config))
    (tuned,) = load_file(folder / "model.safetensors").values()
    assert 1e-5 < np.abs(tuned - start).max() < 1
    assert entry["uplink_bytes_per_client_round"] == 2 * tuned.nbytes, "SCAFFOLD sends its control variate too"


def test_who_does_not_ask_for_towers_or_images_pays_for_neither(monkeypatch, inputs):
    def refuse(*_):
        raise AssertionError("towers or images were asked for")

    monkeypatch.setattr(cachefl_jax.clip, "load_encoder", refuse, raising=False)
    config = config_of("prompts", method="cachefl", compare=("cachefl",))
    learner = build(config, inputs._replace(pixels=refuse))
    assert learner.problem.data.images is None
    whole_encoder.cache_clear()
    with pytest.raises(UsageError, match="towers or images were asked for"):
        build(config_of("prompts"), inputs)


def test_points_of_a_sweep_share_towers_and_images():
    config, shared = config_of("projection"), Shared()
    one, other = (
        build(config_of("projection", seed=seed, **{"data.shots": 0}), shared.inputs(each), shared)
        for seed, each in ((0, prepare(config)), (1, prepare(config)))
    )
    pairs = zip(*(jax.tree.leaves(each.score.frozen) for each in (one, other)), strict=True)
    assert all(leaf is same for leaf, same in pairs if leaf.ndim)
    assert one.problem.data.images is other.problem.data.images
    assert jax.tree.leaves(one.params)[0] is jax.tree.leaves(other.params)[0]


def test_a_bank_refuses_a_method_that_asks_for_its_encoder():
    """A feature bank knows of no encoder: one line instead of a call of nothing."""
    server = Server(np.zeros((2, 1, 4), np.float32), np.zeros((2, 4), np.float32), 1.0, ("a", "b"))
    with pytest.raises(UsageError, match="method: .*encoder"):
        server.encoder()
