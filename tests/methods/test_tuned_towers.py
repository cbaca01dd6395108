"""Methods that tune CLIP's towers: every kind of tower, what travels, what is deployed, and from end to end."""

import functools
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from ml_collections import ConfigDict
from safetensors.numpy import load_file, save_file
from torch_tuning import small_checkpoint

from cachefl_jax.clip import CLIP, Encoder, SigLIP, encode_classes, encode_images, load_encoder
from cachefl_jax.clip.architecture import CLIPConfig, TextConfig, VisionConfig
from cachefl_jax.clip.images import Preparation
from cachefl_jax.clip.open_clip import ResNetCLIP
from cachefl_jax.clip.resnet import ResNetShape
from cachefl_jax.clip.weights import stored_tensors
from cachefl_jax.commands.evaluate import evaluate, stored_config
from cachefl_jax.config import default, resolve
from cachefl_jax.config.components import fit_fields
from cachefl_jax.costs import flops_of
from cachefl_jax.errors import UsageError
from cachefl_jax.federation.evaluate import batch_rows
from cachefl_jax.methods import Rows, Server, find_method
from cachefl_jax.methods import towers as shared
from cachefl_jax.methods.method import training_loss
from cachefl_jax.simulation.server_set import load_all
from cachefl_jax.simulation.sweep_groups import group_of
from cachefl_jax.simulation.sweep_points import prepared_points
from cachefl_jax.simulation.train import train_and_evaluate

pytestmark = pytest.mark.quick

SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
VISION, TEXT = VisionConfig(image_size=32, patch_size=8, **SMALL), TextConfig(50, **SMALL)._replace(eos_token_id=2)
CONFIG = CLIPConfig("clip", VISION, TEXT._replace(max_position_embeddings=12), 12)
KINDS = {
    "CLIP": lambda rngs: CLIP(CONFIG, rngs=rngs),
    "bfloat16": lambda rngs: CLIP(CONFIG, rngs=rngs, dtype=jnp.bfloat16),
    "SigLIP": lambda rngs: SigLIP(CONFIG, rngs=rngs),
    "ResNet": lambda rngs: ResNetCLIP(ResNetShape((1, 2, 1, 1), 8, 4, 32, 12), CONFIG.text_config, rngs=rngs),
}
METHODS = ("full_fine_tuning", "lora", "visual_prompt")
NAMES, IMAGES = ("one", "two", "three"), np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
ROWS = Rows(np.arange(6) % 3, images=IMAGES)


def tokens(texts) -> np.ndarray:
    """[B, 12]: letters, then the largest token, which ends a text, then zeros."""
    ids = [[1 + ord(letter) % 47 for letter in text] + [49] for text in texts]
    return np.array([row + [0] * (12 - len(row)) for row in ids], np.int32)


def server_of(kind: str) -> Server:
    """A server that has a small CLIP of this kind, of random weights."""
    preparation = Preparation(32, (32, 32), 3, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    encoder = Encoder(kind, KINDS[kind](nnx.Rngs(0)), tokens, preparation, 32)
    templates = ("{}", "a {}.")
    text = encode_classes(encoder, NAMES, templates)
    return Server(np.zeros((3, 1, 12), np.float32), text, encoder.logit_scale, NAMES, lambda: encoder, templates)


def config_of(name: str, **changes) -> ConfigDict:
    config = default()
    fit_fields(config, {"method": name, "compare": (name,)})
    config.update_from_flattened_dict(changes)
    return config


def problem(name: str, kind: str, **changes):
    """(the method, params at round 0, what is frozen)."""
    method, server, config = find_method(name), server_of(kind), config_of(name, **changes)
    return method, method.init(server, config), method.freeze(server, config)


@pytest.mark.parametrize(
    ("name", "kind"),
    [*((name, kind) for name in METHODS for kind in ("CLIP", "SigLIP")), ("full_fine_tuning", "ResNet")],
)
def test_round_0_is_clip_and_gradients_are_finite_differences(name, kind):
    method, params, frozen = problem(name, kind)

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def loss(params):
        return training_loss(method)(params, frozen, ROWS).mean(), method.logits(params, frozen, ROWS)

    ((_, found), slope), (expected, scale) = loss(params), zero_shot(kind)
    if name == "visual_prompt":
        assert np.abs(found - expected).max() > 1e-4 * scale
    else:
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * scale)
    step, length = 1e-3, float(np.sqrt(sum(np.square(leaf).sum() for leaf in jax.tree.leaves(slope))))
    ends = [loss(jax.tree.map(lambda x, g: x + far / length * g, params, slope))[0][0] for far in (step, -step)]  # noqa: B023
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(length, rel=0.01)


def zero_shot(kind: str) -> tuple[np.ndarray, float]:
    """(logits of the encoder's own features and class weights, the logit scale)."""
    server = server_of(kind)
    return server.logit_scale * encode_images(server.encoder(), list(IMAGES)) @ server.text.T, server.logit_scale


@pytest.mark.parametrize("name", ["full_fine_tuning", "lora"])
def test_params_are_float32_whatever_the_towers_multiply_in(name):
    method, params, frozen = problem(name, "bfloat16")
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype("float32")}
    expected, scale = zero_shot("bfloat16")
    np.testing.assert_allclose(method.logits(params, frozen, ROWS), expected, rtol=0, atol=0.05 * scale)


@pytest.mark.parametrize("name", ["lora", "visual_prompt"])
def test_a_residual_tower_has_no_blocks_to_add_to(name):
    with pytest.raises(UsageError, match=f"method: got {name}; allowed: a method for residual networks"):
        problem(name, "ResNet")


def test_a_residual_towers_statistics_stay_and_its_scales_are_trained():
    method, params, frozen = problem("full_fine_tuning", "ResNet")
    names = {"/".join(str(entry.key) for entry in path) for path, _ in jax.tree_util.tree_leaves_with_path(params)}
    assert {"visual/bn1/scale", "visual/bn1/bias", "logit_scale"} <= names
    assert not [name for name in names if name.endswith(("mean", "var"))]
    assert "visual.bn1.mean" in method.artefact(params, frozen)[0]


def test_images_in_lots_have_the_same_gradient_in_less_memory():
    """96 images, 25 at once, which 96 is no multiple of: what a tower keeps of them outweighs its weights."""
    found, rows = [], Rows(np.arange(96) % 3, images=np.tile(IMAGES, (16, 1, 1, 1)))
    for most in (0, 25):
        method, params, frozen = problem("visual_prompt", "CLIP", **{"towers.images_at_once": most})
        slope = jax.grad(lambda params: training_loss(method)(params, frozen, rows).mean())  # noqa: B023
        program = jax.jit(slope).lower(params).compile()
        found.append(
            (program(params)["prompts"], program.memory_analysis().temp_size_in_bytes, flops_of(slope, params))
        )
    (plain, memory, work), (same, less, more) = found
    np.testing.assert_allclose(same, plain, rtol=1e-4, atol=1e-5)
    print(f"{memory} bytes, in lots {less}; {work} operations, {more}")
    assert less < 0.6 * memory
    assert 1.15 * work < more < 1.7 * work


def test_many_texts_pass_the_tower_in_blocks_to_the_same_weights(monkeypatch):
    method, params, frozen = problem("full_fine_tuning", "CLIP")
    assert frozen.ids.shape == (3, 2, 9), "what stands behind the longest text's end is left away"

    def weights():
        def total(params):
            found = shared.class_weights(frozen.towers.model(params), frozen.ids)
            return (found * jnp.arange(12.0)[None]).sum(), found

        return jax.jit(jax.grad(total, has_aux=True))(params)

    whole = weights()
    monkeypatch.setattr(shared, "TEXT_TOKENS", 2 * 9)
    assert "while" in jax.jit(method.logits).lower(params, frozen, ROWS).as_text()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), whole, weights())
    np.testing.assert_allclose(whole[1], server_of("CLIP").text, rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def folder(own_store, tmp_path_factory) -> pathlib.Path:
    """A small checkpoint."""
    place = tmp_path_factory.mktemp("clip") / "small"
    small_checkpoint(place)
    return place


def run_config(folder: pathlib.Path, name: str, **changes) -> ConfigDict:
    """A config of few digits at two clients."""
    config = config_of(name, **{"clip.checkpoint": str(folder), "clip.templates": ("a photo of a {}.",)})
    config.data.shots, config.synthesis.source, config.synthesis.images_per_class = 3, "held_out", 1
    config.cache.keys_per_class, config.partition.clients, config.rounds, config.eval_every = 1, 2, 2, 2
    config.local.learning_rate, config.local.batch_size = 1e-2, 4
    config.engine.devices, config.engine.strategy = 1, "scan"
    config.update_from_flattened_dict(changes)
    return config


def test_all_of_them_beside_cachefl(folder, tmp_path):
    rows = ("zero_shot", "cachefl", *METHODS, "lora@alone")
    config = run_config(folder, "full_fine_tuning")
    fit_fields(config, {"compare": rows})
    summary = train_and_evaluate(resolve(config), tmp_path / "run")
    assert list(summary["methods"]) == list(rows)
    paths = {name: tmp_path / "run" / "compared" / name / "model.safetensors" for name in METHODS}
    paths["full_fine_tuning"] = tmp_path / "run" / "model.safetensors"
    sent = {name: summary["methods"][name]["uplink_bytes_per_client_round"] for name in METHODS}
    for name in ("full_fine_tuning", "visual_prompt"):  # whose files are what travels
        header = int.from_bytes(paths[name].read_bytes()[:8], "little")
        assert paths[name].stat().st_size - 8 - header == sent[name]
    whole = load_file(folder / "model.safetensors")
    assert sent["full_fine_tuning"] == sum(array.nbytes for array in whole.values())
    assert sent["lora"] == 4 * 2 * 2 * (16 * 4 + 4 * 16), "two projections in two blocks, 16 x 4 and 4 x 16"
    assert sent["visual_prompt"] == 4 * 8 * 16
    told = evaluate(stored_config(["evaluate", f"--workdir={tmp_path / 'run'}"]), tmp_path / "run", None)
    assert told["test_accuracy"] == summary["methods"]["full_fine_tuning"]["test_accuracy"]
    merged = load_file(paths["lora"])
    assert len(merged) == 4
    assert all(0 < np.abs(merged[name] - whole[name]).max() < 1 for name in merged)
    for name in ("full_fine_tuning", "lora"):
        assert accuracy_of(folder, whole | load_file(paths[name]), tmp_path / name) == pytest.approx(
            summary["methods"][name]["test_accuracy"], abs=1 / 450
        )


def accuracy_of(folder: pathlib.Path, tensors: dict, place: pathlib.Path) -> float:
    """Of zero-shot classification by the checkpoint with these tensors: what somebody does who deploys it."""
    shutil.copytree(folder, place)
    save_file(tensors, place / "model.safetensors")
    source = load_all(resolve(run_config(folder, "lora")))[0]
    encoder = load_encoder(str(place))
    text = encode_classes(encoder, source.class_names, ("a photo of a {}.",))
    answers = (encode_images(encoder, source.test.images) @ text.T).argmax(axis=1)
    return float((answers == source.test.labels).mean())


def test_lora_goes_on_to_more_rounds_as_if_it_had_never_stopped(folder, tmp_path):
    for rounds, name in ((2, "whole"), (1, "cut"), (2, "cut")):
        train_and_evaluate(resolve(run_config(folder, "lora", rounds=rounds)), tmp_path / name)
    whole, cut = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    for name, array in whole.items():
        np.testing.assert_array_equal(array, cut[name])


def test_loras_alpha_is_swept_in_one_program_and_its_rank_is_not(folder):
    changes = ({"lora.alpha": 1.0}, {"lora.alpha": 8.0}, {"lora.rank": 2})
    points = prepared_points([resolve(run_config(folder, "lora", **fields)) for fields in changes], range(3))
    groups = [group_of(point) for point in points]
    assert groups[0] == groups[1] != groups[2]
    assert [float(point.learner.problem.frozen.scale) for point in points] == [0.25, 2.0, 4.0]


def test_before_round_1_the_merged_weights_are_the_checkpoints_to_the_bit(folder):
    method, server, config = find_method("lora"), server_of("CLIP"), config_of("lora")
    params, frozen = method.init(server, config), method.freeze(server, config)
    whole = stored_tensors(nnx.state(server.encoder().model))
    merged, _ = method.artefact(params, frozen)
    assert len(merged) == 2
    assert all(np.array_equal(array, whole[name]) for name, array in merged.items())
    full = find_method("full_fine_tuning")
    kept = config_of("full_fine_tuning", **{"full_fine_tuning.train_scale": False})
    arrays, _ = full.artefact(full.init(server, kept), full.freeze(server, kept))
    assert arrays.keys() == whole.keys()
    assert all(np.array_equal(array, whole[name]) for name, array in arrays.items())
    assert len(jax.tree.leaves(full.init(server, kept))) == len(whole) - 1


@pytest.mark.parametrize("name", METHODS)
def test_a_feature_bank_is_refused(make_bank, tmp_path, name):
    config = config_of(name, **{"data.name": "feature_bank", "data.path": str(make_bank()), "cache.keys_per_class": 1})
    with pytest.raises(UsageError, match="bring images: data.name=image_folder"):
        train_and_evaluate(resolve(config), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("names", [(), ("q_proj", "q_proj"), ("q",)])
def test_projections_that_are_none_are_refused(names):
    with pytest.raises(UsageError, match="lora.projections: got .*; allowed: texts out of q_proj, "):
        resolve(config_of("lora", **{"lora.projections": names}))


def test_batches_of_evaluated_rows_are_bounded_by_their_bytes():
    assert [batch_rows(size) for size in (0, 512 * 4, 32 * 32 * 3, 224 * 224 * 3, 2**40)] == [512, 512, 512, 27, 1]
