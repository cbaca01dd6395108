"""Checkpoints: the same numbers as transformers' torch models, whatever weights are stored in; broken ones named."""

import json
import shlex
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.torch
import torch
from flax import nnx
from safetensors.numpy import load_file, save_file
from torch_towers import VOCABULARY, clip_config, inputs, siglip_config, torch_features, torch_model, worst
from transformers import CLIPModel

from cachefl_jax.clip import load_clip, load_encoder, save_clip
from cachefl_jax.clip.architecture import TextConfig, read_config
from cachefl_jax.clip.checkpoint import POCKET
from cachefl_jax.clip.model import TextTower, compiled_features, features
from cachefl_jax.errors import UsageError

pytestmark = pytest.mark.quick


def texts_with_a_word(word: int) -> np.ndarray:
    """Token ids [B, T]; the first two texts have `word` at position 3, the others nowhere."""
    ids = inputs()[1]
    ids[ids == word] = word - 1
    ids[:2, 3] = word
    return ids


def padded_with_the_end(ids: np.ndarray) -> np.ndarray:
    """As OpenAI's tokenizer fills up: with the end token itself, so that it stands there many times."""
    return np.where(ids == 0, VOCABULARY - 1, ids)


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu", "gelu_pytorch_tanh"])
@pytest.mark.parametrize("eos_token_id", [VOCABULARY - 1, VOCABULARY - 9, 2])
def test_features_equal_those_of_transformers(tmp_path, activation, eos_token_id):
    """VOCABULARY - 9 is a word of some texts and not the largest id of any: 2 alone means the largest."""
    theirs = torch_model(clip_config(eos_token_id, activation))
    theirs.save_pretrained(tmp_path)
    ours, pixels, ids = load_clip(tmp_path), inputs()[0], texts_with_a_word(VOCABULARY - 9)
    for given in (ids, padded_with_the_end(ids)):
        images, texts = torch_features(theirs, pixels, given)
        assert worst(ours.image_features(jnp.asarray(pixels)), images) < 1e-5
        assert worst(ours.text_features(jnp.asarray(given)), texts) < 1e-5


@pytest.mark.parametrize("projection_size", [32, 20])
def test_siglips_features_equal_those_of_transformers(tmp_path, projection_size):
    theirs = torch_model(siglip_config(projection_size))
    theirs.save_pretrained(tmp_path)
    ours, (pixels, ids) = load_clip(tmp_path), inputs(size=35)
    images, texts = torch_features(theirs, pixels, ids)
    assert texts.shape == (4, projection_size)
    assert worst(ours.image_features(jnp.asarray(pixels)), images) < 1e-5
    assert worst(ours.text_features(jnp.asarray(ids)), texts) < 1e-5
    np.testing.assert_array_equal(ours.logit_scale[...], theirs.logit_scale.detach().numpy())
    np.testing.assert_array_equal(ours.logit_bias[...], theirs.logit_bias.detach().numpy())


def test_the_conventions_of_the_end_read_different_states():
    """What the tests above rely on."""
    ids = texts_with_a_word(41)
    towers = {eos: TextTower(TextConfig(50, 8, 8, 1, 1, 16, eos_token_id=eos), rngs=nnx.Rngs(0)) for eos in (49, 41, 2)}
    ends = {eos: tower.end_positions(jnp.asarray(ids)).tolist() for eos, tower in towers.items()}
    assert ends == {49: [5, 6, 7, 8], 41: [3, 3, 0, 0], 2: [5, 6, 7, 8]}
    ids[:, 2] = 2
    assert towers[2].end_positions(jnp.asarray(ids)).tolist() == [5, 6, 7, 8]


@pytest.mark.parametrize("stored", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("config", [clip_config(), siglip_config()], ids=["clip", "siglip"])
def test_half_width_tensors_are_read_as_what_they_hold(tmp_path, config, stored):
    torch_model(config).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    rounded = {name: array.astype(stored) for name, array in tensors.items()}
    save_file({name: array.astype(np.float32) for name, array in rounded.items()}, tmp_path / "model.safetensors")
    expected = load_clip(tmp_path)
    save_file(rounded, tmp_path / "model.safetensors")
    found = load_clip(tmp_path)
    for ours, theirs in zip(jax.tree.leaves(nnx.state(found)), jax.tree.leaves(nnx.state(expected)), strict=True):
        assert ours.dtype == jnp.float32
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("config", [clip_config(), siglip_config()], ids=["clip", "siglip"])
def test_bfloat16_towers_keep_norms_in_float32_and_come_near(tmp_path, config):
    torch_model(config).save_pretrained(tmp_path)
    exact, coarse = load_clip(tmp_path), load_clip(tmp_path, "bfloat16")
    pixels, ids = inputs(size=config.vision_config.image_size)
    for path, leaf in nnx.to_flat_state(nnx.state(coarse)):
        exempt = "norm" in "".join(map(str, path[-2:])) or path[-1] in ("logit_scale", "logit_bias")
        assert leaf[...].dtype == (jnp.float32 if exempt else jnp.bfloat16), path
    for name, given in (("image_features", pixels), ("text_features", ids)):
        expected = np.asarray(getattr(exact, name)(jnp.asarray(given)))
        found = getattr(coarse, name)(jnp.asarray(given))
        assert found.dtype == jnp.float32
        assert 1e-5 < worst(found, expected) < 0.02


def test_an_unknown_dtype_is_refused():
    with pytest.raises(UsageError, match=r"clip.dtype: got float16; allowed: float32 \| float32_3x \| bfloat16"):
        load_clip(POCKET, "float16")


def test_what_we_save_transformers_reads_back_alike(tmp_path):
    config = clip_config()
    torch_model(config).save_pretrained(tmp_path / "theirs")
    save_clip(load_clip(tmp_path / "theirs"), config, tmp_path / "ours")
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("theirs", "ours"))
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    CLIPModel.from_pretrained(tmp_path / "ours")


def test_the_pocket_clip_is_the_same_model_in_torch():
    encoder, theirs = load_encoder("pocket"), CLIPModel.from_pretrained(POCKET).eval()
    size = read_config(POCKET).vision_config.image_size
    ids = encoder.tokenizer(["a photo of the digit three.", "7"])
    pixels = inputs(2, size)[0]
    images, texts = torch_features(theirs, pixels, ids)
    assert np.abs(np.asarray(encoder.model.image_features(jnp.asarray(pixels))) - images).max() < 1e-5
    assert np.abs(np.asarray(encoder.model.text_features(jnp.asarray(ids))) - texts).max() < 1e-5


def test_the_pocket_clip_is_at_most_ten_megabytes():
    assert sum(file.stat().st_size for file in POCKET.iterdir()) <= 10e6


def split_into_shards(directory) -> list[str]:
    """Rewrites a checkpoint's weights as two shards with an index; the shards' names."""
    tensors = load_file(directory / "model.safetensors")
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, part in parts.items():
        save_file({name: tensors[name] for name in part}, directory / file)
    weight_map = {name: file for file, part in parts.items() for name in part}
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (directory / "model.safetensors").unlink()
    return list(parts)


def test_sharded_weights_are_read_through_their_index(tmp_path):
    torch_model(clip_config()).save_pretrained(tmp_path)
    whole = load_clip(tmp_path)
    split_into_shards(tmp_path)
    pixels = jnp.asarray(inputs()[0])
    assert np.array_equal(load_clip(tmp_path).image_features(pixels), whole.image_features(pixels))


def test_missing_shards_are_named_together(tmp_path):
    torch_model(clip_config()).save_pretrained(tmp_path)
    shards = split_into_shards(tmp_path)
    for name in shards:
        (tmp_path / name).unlink()
    with pytest.raises(
        UsageError, match=f"no {shards[0]}, {shards[1]}; allowed: all that model.safetensors.index.json"
    ):
        load_clip(tmp_path)


@pytest.mark.parametrize(
    "text", ["{", "{}", '{"weight_map": {"a": "../model.safetensors"}}', '{"weight_map": {"a": 1}}']
)
def test_a_broken_index_is_refused(tmp_path, text):
    torch_model(clip_config()).save_pretrained(tmp_path)
    split_into_shards(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(UsageError, match="index.json: got .*download it again"):
        load_clip(tmp_path)


def test_old_position_buffers_are_ignored(tmp_path):
    torch_model(clip_config()).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({**tensors, "text_model.embeddings.position_ids": np.arange(16)[None]}, tmp_path / "model.safetensors")
    load_clip(tmp_path)


def test_every_wrong_tensor_is_named_in_one_line(tmp_path):
    torch_model(clip_config()).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["visual_projection.weight"], tensors["text_model.final_layer_norm.bias"]
    tensors["text_projection.weight"] = np.zeros((3, 32), np.float32)
    tensors["adapter.weight"] = np.zeros(1, np.float32)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(UsageError) as caught:
        load_clip(tmp_path)
    for part in (
        "missing visual_projection.weight",
        "missing text_model.final_layer_norm.bias",
        "text_projection.weight has shape (3, 32) where (16, 32) is due",
        "unexpected adapter.weight",
    ):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pickled_weights_alone_are_refused_with_the_conversion(tmp_path):
    """The command that is told is run: it must make a checkpoint that loads."""
    model = torch_model(clip_config())
    model.save_pretrained(tmp_path)
    expected = load_clip(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UsageError, match="pytorch_model.bin only") as caught:
        load_clip(tmp_path)
    words = shlex.split(caught.value.mend.removeprefix("convert them once: "))
    subprocess.run([sys.executable, *words[1:]], check=True, capture_output=True, timeout=300)
    pixels = jnp.asarray(inputs()[0])
    assert np.array_equal(load_clip(tmp_path).image_features(pixels), expected.image_features(pixels))


def test_a_cut_off_file_is_refused(tmp_path):
    torch_model(clip_config()).save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UsageError, match="a whole safetensors file"):
        load_clip(tmp_path)


def test_quantised_weights_are_refused(tmp_path):
    torch_model(clip_config()).save_pretrained(tmp_path)
    safetensors.torch.save_file({"a": torch.zeros(2).to(torch.float8_e4m3fn)}, tmp_path / "model.safetensors")
    with pytest.raises(UsageError, match="allowed: float32, float16 or bfloat16 tensors"):
        load_clip(tmp_path)


@pytest.mark.parametrize("stored", [np.int32, np.uint8, np.bool_])
def test_whole_numbers_are_no_weights(tmp_path, stored):
    """Quantised weights lack their scale, and a damaged header gives the bits of fractions as whole numbers."""
    shutil.copytree(POCKET, tmp_path, dirs_exist_ok=True)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["visual_projection.weight"] = (tensors["visual_projection.weight"] * 100).astype(stored)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(UsageError, match=f"visual_projection.weight holds {np.dtype(stored)} where fractions are due"):
        load_clip(tmp_path)


def test_compiled_features_are_the_models_and_compile_once_an_architecture(tmp_path):
    first = load_clip(POCKET)
    pixels, ids = inputs(2)[0], np.arange(16)[None] + 3
    images, texts = compiled_features(first)
    np.testing.assert_allclose(images(pixels), first.image_features(jnp.asarray(pixels)), atol=1e-5)
    np.testing.assert_allclose(texts(ids), first.text_features(jnp.asarray(ids)), atol=1e-5)
    count = features._cache_size()
    again = compiled_features(load_clip(POCKET))[0]
    np.testing.assert_array_equal(again(pixels), images(pixels))
    assert features._cache_size() == count


def test_a_model_is_loaded_without_torch_and_transformers():
    code = (
        "import pathlib, sys; from cachefl_jax.clip import load_clip; from cachefl_jax.clip.checkpoint import POCKET; "
    )
    code += "load_clip(POCKET); print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "[]"
