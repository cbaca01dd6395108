"""PromptFL and FedTPG in runs: on the digits by pocket CLIP, with 1,000 classes, in sweeps; and what it refuses."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open

from cachefl_jax.clip import load_encoder
from cachefl_jax.commands.evaluate import evaluate, stored_config
from cachefl_jax.config import changed, default, resolve
from cachefl_jax.deploy.model import read_model as deployed_model
from cachefl_jax.deploy.predict import predict
from cachefl_jax.errors import UsageError
from cachefl_jax.methods import Rows, Server, prompt_fl
from cachefl_jax.methods.method import training_loss
from cachefl_jax.simulation.prepare import prepare
from cachefl_jax.simulation.sweep_groups import group_of
from cachefl_jax.simulation.sweep_points import prepared_points
from cachefl_jax.simulation.train import train_and_evaluate

pytestmark = pytest.mark.quick

METHOD = prompt_fl.prompt_fl
TEMPLATE = "a photo of the digit {}."


def config_of(**changes):
    """A config of few digits and two rounds at two clients."""
    fields = {
        "method": "prompt_fl", "compare": ("prompt_fl", "zero_shot"), "clip.templates": (TEMPLATE,),
        "data.shots": 3, "synthesis.source": "held_out", "synthesis.images_per_class": 1, "cache.keys_per_class": 1,
        "partition.clients": 2, "rounds": 2, "local.batch_size": 16, "engine.devices": 1, "engine.strategy": "scan",
        "local.learning_rate": 0.02,
    }  # fmt: skip
    return changed(default(), fields | changes)


@pytest.fixture(scope="module")
def encoder():
    return load_encoder("pocket")


def server_of(encoder, names: tuple[str, ...]) -> Server:
    nothing = np.zeros((len(names), 1, 128), np.float32)
    return Server(nothing, nothing[:, 0], 100.0, names, lambda: encoder, (TEMPLATE,))


def own_config(**fields):
    """A config with these values of the method's own fields."""
    return resolve(
        changed(default(), {"method": "prompt_fl", **{f"prompt_fl.{name}": fields[name] for name in fields}})
    )


def read_model(folder: pathlib.Path) -> tuple[dict, dict]:
    """(arrays, metadata) of a run's artefact."""
    with safe_open(folder / "model.safetensors", "numpy") as file:
        told = {name: json.loads(value) for name, value in file.metadata().items()}
        return {name: file.get_tensor(name) for name in file.keys()}, told  # noqa: SIM118


@pytest.fixture(scope="module")
def run(tmp_path_factory, own_store):
    """(summary, folder) of a run beside FedTPG and CacheFL."""
    folder = tmp_path_factory.mktemp("prompt") / "run"
    compare = ("prompt_fl", "prompt_fl@round_0", "fed_tpg", "zero_shot", "cachefl")
    overrides = ("fed_tpg: local.learning_rate=0.004",)
    return train_and_evaluate(config_of(compare=compare, overrides=overrides), folder), folder


def test_it_starts_as_zero_shot_by_the_same_template_and_learns(run):
    rows = run[0]["methods"]
    start, plain = rows["prompt_fl@round_0"], rows["zero_shot"]
    assert start["test_accuracy"] == plain["test_accuracy"]
    assert start["test_cross_entropy"] == pytest.approx(plain["test_cross_entropy"], abs=1e-4)
    for name in ("prompt_fl", "fed_tpg"):
        assert rows[name]["test_cross_entropy"] < plain["test_cross_entropy"] - 0.002
    assert rows["cachefl"]["label"] == "CacheFL"


@pytest.mark.parametrize(("name", "place"), [("prompt_fl", "."), ("fed_tpg", "compared/fed_tpg")])
def test_what_is_trained_travels_and_the_artefact_needs_no_tower(run, name, place):
    summary, folder = run
    entry, (arrays, told) = summary["methods"][name], read_model(folder / place)
    assert arrays["context"].shape == (5, 128), "a photo of the digit"
    numbers = 5 * 128 if name == "prompt_fl" else 5 * 128 + 2 * 128 * 128 + 2 * 128 * 64 + 64
    assert entry["uplink_bytes_per_client_round"] == entry["downlink_bytes_per_client_round"] == 4 * numbers
    bank = prepare(resolve(config_of())).bank
    logits = told["logit_scale"] * bank.test.features @ arrays["text"].T
    found = predict(deployed_model(folder / place / "model.safetensors"), bank.test.features)
    np.testing.assert_allclose(found.logits, logits, rtol=1e-5, atol=1e-4)
    assert (logits.argmax(axis=1) == bank.test.labels).mean() == pytest.approx(entry["test_accuracy"], abs=1e-9)


def test_a_checkpoint_is_evaluated_and_more_rounds_go_on_from_it(run, tmp_path):
    summary, folder = run
    told = evaluate(stored_config(["evaluate", f"--workdir={folder}"]), folder, None)
    assert told["test_accuracy"] == summary["methods"]["prompt_fl"]["test_accuracy"]
    for rounds in (1, 2):
        train_and_evaluate(config_of(rounds=rounds), tmp_path / "cut")
    np.testing.assert_array_equal(read_model(tmp_path / "cut")[0]["context"], read_model(folder)[0]["context"])


def test_points_that_differ_in_their_rate_are_one_program():
    points = [
        config_of(),
        config_of(**{"local.learning_rate": 0.1}),
        config_of(**{"prompt_fl.class_specific": True}),
    ]
    prepared = prepared_points([resolve(point) for point in points], range(len(points)))
    one, other, by_class = map(group_of, prepared)
    assert one == other != by_class


def test_a_thousand_classes_fit(encoder):
    """A step on pocket CLIP: what the program needs beside its arguments stays below 128 MiB."""
    config, server = own_config(), server_of(encoder, tuple(map(str, range(1000))))
    prompt, frozen = METHOD.init(server, config), METHOD.freeze(server, config)
    rows = Rows(jnp.arange(32, dtype=jnp.int32), jnp.ones((32, 128)) / np.sqrt(128))
    step = jax.jit(jax.value_and_grad(lambda prompt, frozen: training_loss(METHOD)(prompt, frozen, rows).mean()))
    compiled = step.lower(prompt, frozen).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 2**27
    loss, slope = compiled(prompt, frozen)
    assert np.isfinite(loss)
    assert 0 < np.abs(slope.context).max() < np.inf


def test_a_context_is_the_templates_words_or_drawn_and_what_follows_the_name_stays(encoder):
    server = server_of(encoder, ("three", "five"))
    words = METHOD.init(server, own_config(template="the digit {} again."))
    ids = encoder.tokenizer(["the digit three again.", "the digit five again."])
    embeddings = np.asarray(encoder.model.text_model.embeddings.token_embedding.embedding[...])
    np.testing.assert_array_equal(words.context, embeddings[ids[0, 1:3]])
    drawn = own_config(template="the digit {} again.", context=5, class_specific=True)
    start, frozen = METHOD.init(server, drawn), METHOD.freeze(server, drawn)
    assert start.context.shape == (2, 5, 128)
    assert start.context.std() == pytest.approx(0.02, rel=0.1)
    ends = np.argmax(ids == encoder.tokenizer.end, axis=1)
    for own, row, end in zip(frozen.after, ids, ends, strict=True):
        np.testing.assert_array_equal(own[: end - 2], embeddings[row[3 : end + 1]])
    np.testing.assert_array_equal(frozen.ends, ends + 3)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"template": "no name"}, "prompt_fl.template: got no name; allowed: a text with exactly one {}"),
        ({"template": "{} on a photo"}, "prompt_fl.template: got {} on a photo; allowed: a text with words before"),
        ({"context": 14}, 'prompt_fl.context: got 2 of 2 texts that are too long: "x x .* at most 16 tokens a text'),
    ],
)
def test_what_it_cannot_start_from_is_refused(encoder, fields, told):
    with pytest.raises(UsageError, match=told):
        METHOD.init(server_of(encoder, ("three", "five")), own_config(**fields))


def test_a_feature_bank_is_refused_in_one_line(make_bank, tmp_path):
    fields = {"data.name": "feature_bank", "data.path": str(make_bank()), "method": "prompt_fl"}
    config = changed(default(), {**fields, "cache.keys_per_class": 2, "partition.clients": 2})
    with pytest.raises(UsageError, match="method: got one that asks for the encoder; .*bring images"):
        train_and_evaluate(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
