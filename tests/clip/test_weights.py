"""Hugging Face checkpoints: the same numbers as transformers' torch CLIPModel, and every broken one named."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers import CLIPConfig, CLIPModel

from cachefl_jax.clip import load_clip, load_encoder, save_clip
from cachefl_jax.clip.weights import POCKET, find_checkpoint, read_config
from cachefl_jax.errors import UsageError

VOCABULARY = 50
TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


def small_config(eos_token_id: int = VOCABULARY - 1, activation: str = "quick_gelu") -> CLIPConfig:
    ids = {"bos_token_id": VOCABULARY - 2, "eos_token_id": eos_token_id, "pad_token_id": 0}
    text = {**TOWER, **ids, "vocab_size": VOCABULARY, "max_position_embeddings": 16, "hidden_act": activation}
    vision = {**TOWER, "image_size": 32, "patch_size": 8, "hidden_act": activation}
    return CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)


def torch_model(config: CLIPConfig) -> CLIPModel:
    """Random weights everywhere, the norms' and biases' too: at their initial 1 and 0 a mix-up would not show."""
    torch.manual_seed(0)
    model = CLIPModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def inputs(count: int = 4, size: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Pixels [B, H, W, 3] and token ids [B, T] that end at different places."""
    rng = np.random.default_rng(0)
    ids = rng.integers(3, VOCABULARY - 2, (count, 12))
    ids[:, 0] = VOCABULARY - 2
    for row in range(count):
        ids[row, 5 + row :] = 0
        ids[row, 5 + row] = VOCABULARY - 1
    return rng.normal(size=(count, size, size, 3)).astype(np.float32), ids


def torch_features(model: CLIPModel, pixels: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with torch.no_grad():
        images = model.visual_projection(model.vision_model(torch.tensor(pixels.transpose(0, 3, 1, 2))).pooler_output)
        texts = model.text_projection(model.text_model(torch.tensor(ids)).pooler_output)
    return images.numpy(), texts.numpy()


def worst(ours, theirs: np.ndarray) -> float:
    """The largest difference as a share of the features' length."""
    return float((np.abs(np.asarray(ours) - theirs).max(axis=1) / np.linalg.norm(theirs, axis=1)).max())


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("eos_token_id", [VOCABULARY - 1, 2])
def test_features_equal_those_of_transformers(tmp_path, activation, eos_token_id):
    theirs = torch_model(small_config(eos_token_id, activation))
    theirs.save_pretrained(tmp_path)
    ours, (pixels, ids) = load_clip(tmp_path), inputs()
    images, texts = torch_features(theirs, pixels, ids)
    assert worst(ours.image_features(jnp.asarray(pixels)), images) < 1e-5
    assert worst(ours.text_features(jnp.asarray(ids)), texts) < 1e-5


def test_what_we_save_transformers_reads_back_alike(tmp_path):
    config = small_config()
    torch_model(config).save_pretrained(tmp_path / "theirs")
    save_clip(load_clip(tmp_path / "theirs"), config, tmp_path / "ours")
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("theirs", "ours"))
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    CLIPModel.from_pretrained(tmp_path / "ours")


def test_the_pocket_clip_is_the_same_model_in_torch():
    encoder, theirs = load_encoder("pocket"), CLIPModel.from_pretrained(POCKET).eval()
    size = read_config(POCKET).vision_config.image_size
    ids = encoder.tokenizer(["a photo of the digit three.", "7"], padding="max_length", max_length=16)["input_ids"]
    pixels, ids = inputs(2, size)[0], np.asarray(ids)
    images, texts = torch_features(theirs, pixels, ids)
    assert np.abs(np.asarray(encoder.model.image_features(jnp.asarray(pixels))) - images).max() < 1e-5
    assert np.abs(np.asarray(encoder.model.text_features(jnp.asarray(ids))) - texts).max() < 1e-5


def test_the_pocket_clip_is_at_most_ten_megabytes():
    assert sum(file.stat().st_size for file in POCKET.iterdir()) <= 10e6


def test_sharded_weights_are_read_through_their_index(tmp_path):
    torch_model(small_config()).save_pretrained(tmp_path)
    whole = load_clip(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, part in parts.items():
        save_file({name: tensors[name] for name in part}, tmp_path / file)
    weight_map = {name: file for file, part in parts.items() for name in part}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (tmp_path / "model.safetensors").unlink()
    pixels = jnp.asarray(inputs()[0])
    assert np.array_equal(load_clip(tmp_path).image_features(pixels), whole.image_features(pixels))


def test_old_position_buffers_are_ignored(tmp_path):
    torch_model(small_config()).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({**tensors, "text_model.embeddings.position_ids": np.arange(16)[None]}, tmp_path / "model.safetensors")
    load_clip(tmp_path)


def test_every_wrong_tensor_is_named_in_one_line(tmp_path):
    torch_model(small_config()).save_pretrained(tmp_path)
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
        "text_projection.weight has shape (32, 3)",
        "unexpected adapter.weight",
    ):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("/no/such/folder", "no such directory"),
        ("pockett", "no such directory"),
        ("~/models/clip", "no such directory"),
    ],
)
def test_a_checkpoint_that_is_not_there_is_refused(name, match):
    with pytest.raises(UsageError, match=match):
        find_checkpoint(name)


def test_an_unreachable_hub_is_one_line(monkeypatch):
    import huggingface_hub

    def refuse(*_, **__):
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(UsageError, match="ConnectionError from the hub: download it once"):
        find_checkpoint("openai/clip-vit-base-patch32")


def test_pickled_weights_alone_are_refused_with_the_conversion(tmp_path):
    torch_model(small_config()).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(UsageError, match=r"pytorch_model.bin only.*save_pretrained"):
        load_clip(tmp_path)


def test_a_cut_off_file_is_refused(tmp_path):
    torch_model(small_config()).save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UsageError, match="a whole safetensors file"):
        load_clip(tmp_path)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "no valid JSON"),
        ('{"model_type": "bert"}', "model_type: got bert"),
        (None, "a directory with a config.json"),
    ],
)
def test_another_models_config_is_refused(tmp_path, text, match):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(UsageError, match=match):
        load_clip(tmp_path)
