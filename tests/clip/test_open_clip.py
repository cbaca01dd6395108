"""Checkpoints in open_clip's format: the same numbers as in torch, the same images, and every broken one named."""

import json
import pathlib
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from open_clip_reference import RESNET, VIT, inputs, reference, save, share, small_config
from PIL import Image
from safetensors.numpy import load_file, save_file

from cachefl_jax.clip import costs
from cachefl_jax.clip.checkpoint import OPEN_CLIP_CONFIG as CONFIG
from cachefl_jax.clip.checkpoint import OPEN_CLIP_WEIGHTS as WEIGHTS
from cachefl_jax.clip.checkpoint import POCKET
from cachefl_jax.clip.images import prepare, shaped
from cachefl_jax.clip.open_clip import ResNetCLIP, load_open_clip
from cachefl_jax.clip.open_clip_config import read_open_clip_preparation
from cachefl_jax.clip.tokenizer import load_tokenizer
from cachefl_jax.clip.weights import load_clip
from cachefl_jax.errors import UsageError

pytestmark = pytest.mark.quick

TOWERS = {"ResNet": RESNET, "ViT": VIT}


@nnx.jit
def image_features(model, pixels):
    return model.image_features(pixels)


@nnx.jit
def text_features(model, ids):
    return model.text_features(ids)


@pytest.fixture
def checkpoint(tmp_path) -> pathlib.Path:
    """A small residual network's directory, whole."""
    save(reference(small_config()), small_config(), tmp_path)
    return tmp_path


def change_config(directory: pathlib.Path, group: str, **fields) -> None:
    """Sets fields of 'model_cfg', 'preprocess_cfg', 'vision_cfg' or 'text_cfg'."""
    config = json.loads((directory / CONFIG).read_text())
    inside = config if group in config else config["model_cfg"]
    inside[group] |= fields
    (directory / CONFIG).write_text(json.dumps(config))


@pytest.mark.parametrize("quick_gelu", [True, False])
@pytest.mark.parametrize("vision", TOWERS.values(), ids=TOWERS.keys())
def test_features_equal_those_of_torch(tmp_path, vision, quick_gelu):
    config = small_config(vision, quick_gelu)
    theirs, (pixels, ids) = reference(config), inputs(config)
    save(theirs, config, tmp_path)
    ours, texts = load_open_clip(tmp_path), theirs.text_features(ids)
    assert share(image_features(ours, jnp.asarray(pixels)), theirs.image_features(pixels)) < 1e-5
    assert share(text_features(ours, jnp.asarray(ids)), texts) < 1e-5
    assert float(ours.logit_scale[...]) == theirs.logit_scale.item()
    other = reference(small_config(vision, not quick_gelu)).text_features(ids)
    assert share(texts, other) > 1e-4, "the two activations would pass for each other"


@pytest.mark.parametrize("vision", TOWERS.values(), ids=TOWERS.keys())
def test_the_reference_is_open_clips_model(vision):
    open_clip = pytest.importorskip("open_clip", reason="open_clip_torch is not needed, only compared with")
    config = small_config(vision)
    ours, (pixels, ids), model = reference(config), inputs(config), config["model_cfg"]
    theirs = open_clip.CLIP(model["embed_dim"], model["vision_cfg"], model["text_cfg"], quick_gelu=True).eval()
    theirs.load_state_dict(ours.state_dict())
    with torch.no_grad():
        images = theirs.encode_image(torch.tensor(pixels.transpose(0, 3, 1, 2))).numpy()
        texts = theirs.encode_text(torch.tensor(ids)).numpy()
    assert share(ours.image_features(pixels), images) < 1e-6
    assert share(ours.text_features(ids), texts) < 1e-6


@pytest.mark.parametrize(
    ("layers", "features", "parameters"), [([3, 4, 6, 3], 1024, 102_007_137), ([3, 4, 23, 3], 512, 119_688_033)]
)
def test_whole_models_have_as_many_parameters_as_openais(tmp_path, monkeypatch, layers, features, parameters):
    """Of the config alone; the arithmetic of so many layers takes long to count."""
    monkeypatch.setattr(costs, "flops", lambda *_: 0.0)
    vision = {"image_size": 224, "layers": layers, "width": 64, "patch_size": None}
    text = {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12}
    config = {"embed_dim": features, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}
    (tmp_path / CONFIG).write_text(json.dumps({"model_cfg": config}))
    found = costs.tower_costs(tmp_path)
    assert found.whole.parameters == found.image.parameters + found.text.parameters + 1 == parameters


def test_a_vision_transformers_costs_are_those_of_the_same_tower_in_the_other_format(tmp_path):
    config = small_config(VIT)
    save(reference(config), config, tmp_path)
    assert costs.tower_costs(tmp_path) == costs.tower_costs(load_open_clip(tmp_path))


def test_load_clip_takes_this_format_too(checkpoint):
    assert isinstance(load_clip(checkpoint), ResNetCLIP)


def test_half_precision_weights_become_float32(checkpoint):
    whole = load_open_clip(checkpoint)
    halves = {name: array.astype(np.float16) for name, array in load_file(checkpoint / WEIGHTS).items()}
    save_file(halves, checkpoint / WEIGHTS)
    half, pixels = load_open_clip(checkpoint), jnp.asarray(inputs(small_config())[0])
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(nnx.state(half)))
    assert share(image_features(half, pixels), np.asarray(image_features(whole, pixels))) < 1e-2


@pytest.mark.parametrize("vision", TOWERS.values(), ids=TOWERS.keys())
def test_bfloat16_is_kept_and_multiplied_in_but_not_handed_out(tmp_path, vision):
    config = small_config(vision)
    save(reference(config), config, tmp_path)
    exact, rounded = load_open_clip(tmp_path), load_open_clip(tmp_path, dtype="bfloat16")
    pixels, ids = (jnp.asarray(array) for array in inputs(config))
    for features, batch in ((image_features, pixels), (text_features, ids)):
        assert features(rounded, batch).dtype == jnp.float32
        assert 1e-4 < share(features(rounded, batch), np.asarray(features(exact, batch))) < 0.05
    sizes = [sum(leaf.nbytes for leaf in jax.tree.leaves(nnx.state(model))) for model in (rounded, exact)]
    assert sizes[0] < 0.55 * sizes[1]


def test_every_wrong_tensor_is_named_in_one_line(checkpoint):
    tensors = load_file(checkpoint / WEIGHTS)
    del tensors["visual.layer2.1.bn1.running_var"], tensors["transformer.resblocks.1.attn.in_proj_weight"]
    tensors["visual.conv1.weight"] = np.zeros((4, 3, 7, 7), np.float32)
    tensors["transformer.resblocks.0.attn.in_proj_bias"] = np.zeros(95, np.float32)
    tensors["logit_bias"] = np.zeros((), np.float32)
    save_file(tensors, checkpoint / WEIGHTS)
    with pytest.raises(UsageError) as caught:
        load_open_clip(checkpoint)
    for part in (
        "missing visual.layer2.1.bn1.running_var",
        "missing transformer.resblocks.1.attn.in_proj_weight[query]",
        "visual.conv1.weight has shape (4, 3, 7, 7) where (4, 3, 3, 3) is due",
        "transformer.resblocks.0.attn.in_proj_bias[value] has shape (31,) where (32,) is due",
        "unexpected logit_bias",
    ):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("group", "fields", "match"),
    [
        ("vision_cfg", {"layers": [3, 4, 6]}, "vision_cfg.layers: got [3, 4, 6]; allowed: the blocks of four stages"),
        ("vision_cfg", {"layers": "12"}, "vision_cfg.layers: got 12"),
        ("vision_cfg", {"layers": [1, 1, 0, 1]}, "vision_cfg.layers: got 0"),
        ("vision_cfg", {"width": 0}, "vision_cfg.width: got 0"),
        ("vision_cfg", {"width": 9}, "vision_cfg.width: got 9; allowed: an even number"),
        ("vision_cfg", {"head_width": 48}, "vision_cfg.head_width: got 48; allowed: a divisor of 256"),
        ("vision_cfg", {"image_size": 100}, "vision_cfg.image_size: got 100; allowed: a multiple of 32"),
        ("vision_cfg", {"image_size": [64, 96]}, "vision_cfg.image_size: got [64, 96]"),
        ("vision_cfg", {"image_size": [[64], [64]]}, "vision_cfg.image_size: got [64]"),
        ("vision_cfg", {"timm_model_name": "convnext_base"}, "vision_cfg.timm_model_name: got convnext_base"),
        ("vision_cfg", {"pool_type": "avg"}, "vision_cfg.pool_type: got avg"),
        ("text_cfg", {"hf_model_name": "xlm-roberta-base"}, "text_cfg.hf_model_name: got xlm-roberta-base"),
        ("text_cfg", {"no_causal_mask": True}, "text_cfg.no_causal_mask: got True"),
        ("text_cfg", {"heads": 5}, "text_cfg.heads: got 5; allowed: a divisor of the width 32"),
        ("text_cfg", {"mlp_ratio": "4"}, "text_cfg.mlp_ratio: got 4"),
        ("model_cfg", {"custom_text": True}, "model_cfg.custom_text: got True"),
        ("model_cfg", {"init_logit_bias": -10}, "model_cfg.init_logit_bias: got -10"),
        ("model_cfg", {"embed_dim": None}, "model_cfg.embed_dim: got None"),
        ("model_cfg", {"text_cfg": None}, "text_cfg: got None; allowed: a group of fields"),
    ],
)
def test_another_architecture_is_refused(checkpoint, group, fields, match):
    change_config(checkpoint, group, **fields)
    with pytest.raises(UsageError) as caught:
        load_open_clip(checkpoint)
    assert match in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_a_config_switches_off_is_not_refused(checkpoint):
    change_config(checkpoint, "model_cfg", custom_text=False, init_logit_bias=None)
    change_config(checkpoint, "vision_cfg", timm_model_name=None, pool_type="tok", image_size=[64, 64])
    change_config(checkpoint, "text_cfg", pool_type="argmax", norm_kwargs={}, eos_id=2)
    assert isinstance(load_open_clip(checkpoint), ResNetCLIP)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (None, "a directory with an open_clip_config.json"),
        ("{", "JSON"),
        ("[]", "a JSON object"),
        ("{}", "model_cfg: got None"),
    ],
)
def test_a_broken_config_is_refused(checkpoint, text, match):
    (checkpoint / CONFIG).unlink()
    if text is not None:
        (checkpoint / CONFIG).write_text(text)
    for read in (load_open_clip, read_open_clip_preparation):
        with pytest.raises(UsageError, match=match):
            read(checkpoint)


def test_a_cut_off_file_is_refused(checkpoint):
    file = checkpoint / WEIGHTS
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UsageError, match="a whole safetensors file"):
        load_open_clip(checkpoint)


def test_pickled_weights_alone_are_refused_and_the_command_told_converts_them(checkpoint):
    before = load_file(checkpoint / WEIGHTS)
    torch.save(reference(small_config()).state_dict(), checkpoint / "open_clip_pytorch_model.bin")
    (checkpoint / WEIGHTS).unlink()
    with pytest.raises(UsageError, match=r"open_clip_pytorch_model.bin only.*python -c") as caught:
        load_open_clip(checkpoint)
    command = str(caught.value).split('python -c "')[1].removesuffix('"')
    subprocess.run([sys.executable, "-W", "ignore", "-c", command], cwd=checkpoint, check=True)
    after = load_file(checkpoint / WEIGHTS)
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_no_weights_at_all_are_refused(checkpoint):
    (checkpoint / WEIGHTS).unlink()
    with pytest.raises(UsageError, match="no weights"):
        load_open_clip(checkpoint)


def test_images_are_prepared_as_the_config_says(checkpoint):
    preparation = read_open_clip_preparation(checkpoint)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 120, 3), dtype=np.uint8))
    resized = np.asarray(picture.resize((96, 64), Image.Resampling.BICUBIC), np.float64)[:, 16:80]
    expected = (resized / 255 - [0.4, 0.5, 0.6]) / [0.2, 0.3, 0.4]
    assert np.abs(prepare(picture, preparation) - expected).max() < 1e-5
    change_config(checkpoint, "preprocess_cfg", interpolation="bilinear")
    assert read_open_clip_preparation(checkpoint).resample == Image.Resampling.BILINEAR


def test_half_a_pixel_of_the_middle_goes_where_torchvision_puts_it(checkpoint):
    preparation = read_open_clip_preparation(checkpoint)._replace(resize=None, crop=(4, 4))
    pixels = np.arange(4 * 11 * 3, dtype=np.uint8).reshape(4, 11, 3)
    for width, first in ((9, 2), (11, 4), (10, 3)):  # round(2.5), round(3.5), 3
        np.testing.assert_array_equal(shaped(pixels[:, :width], preparation), pixels[:, first : first + 4])


def test_squashing_keeps_all_of_a_picture(checkpoint):
    change_config(checkpoint, "preprocess_cfg", resize_mode="squash", mean=[0.0, 0.0, 0.0], std=[1.0, 1.0, 1.0])
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 120, 3), dtype=np.uint8))
    expected = np.asarray(picture.resize((64, 64), Image.Resampling.BICUBIC), np.float64) / 255
    assert np.abs(prepare(picture, read_open_clip_preparation(checkpoint)) - expected).max() < 1e-6


def test_a_silent_config_means_openais_preparation(checkpoint):
    config = json.loads((checkpoint / CONFIG).read_text())
    (checkpoint / CONFIG).write_text(json.dumps({"model_cfg": config["model_cfg"]}))
    preparation = read_open_clip_preparation(checkpoint)
    assert preparation.mean == (0.48145466, 0.4578275, 0.40821073)
    assert preparation.std == (0.26862954, 0.26130258, 0.27577711)
    assert preparation.resample == Image.Resampling.BICUBIC


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"resize_mode": "longest"}, "preprocess_cfg.resize_mode: got longest"),
        ({"interpolation": "random"}, "preprocess_cfg.interpolation: got random; allowed: bicubic | bilinear"),
        ({"mean": [0.5]}, "preprocess_cfg.mean: got [0.5]"),
        ({"mean": "123"}, "preprocess_cfg.mean: got 123"),
        ({"mean": [0.5, 0.5, "0.5"]}, "preprocess_cfg.mean: got"),
        ({"std": [0.5, 0.5, 0]}, "preprocess_cfg.std: got [0.5, 0.5, 0]"),
    ],
)
def test_another_preparation_is_refused(checkpoint, fields, match):
    change_config(checkpoint, "preprocess_cfg", **fields)
    with pytest.raises(UsageError) as caught:
        read_open_clip_preparation(checkpoint)
    assert match in str(caught.value)


@pytest.mark.parametrize("files", [["tokenizer.json"], ["vocab.json", "merges.txt"]])
def test_texts_are_read_with_the_vocabulary_that_lies_there(tmp_path, files):
    config = small_config()
    config["model_cfg"]["text_cfg"] |= {"vocab_size": 604, "context_length": 16}
    theirs = reference(config)
    save(theirs, config, tmp_path)
    for file in files:
        shutil.copy(POCKET / file, tmp_path)
    ids = load_tokenizer(tmp_path, 16)(["a photo of the digit three.", "7"])
    # Ours fill up with the end token, of which the first counts; open_clip fills up with 0.
    ends = np.maximum.accumulate(ids == 603, axis=1).cumsum(axis=1)
    assert ends.max() > 1
    assert share(text_features(load_open_clip(tmp_path), ids), theirs.text_features(np.where(ends > 1, 0, ids))) < 1e-5
