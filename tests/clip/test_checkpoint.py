"""Where a checkpoint lies and what it consists of, told without loading it."""

import pathlib
import shutil
import subprocess
import sys

import pytest

from cachefl_jax.clip.checkpoint import (
    OPEN_CLIP_CONFIG,
    OPEN_CLIP_WEIGHTS,
    POCKET,
    find_checkpoint,
    is_open_clip,
    weight_files,
)
from cachefl_jax.clip.digest import weights_digest
from cachefl_jax.errors import UsageError


@pytest.mark.parametrize("name", ["/no/such/folder", "pockett", "~/models/clip", "./a/b"])
def test_a_checkpoint_that_is_not_there_is_refused(name):
    with pytest.raises(UsageError, match="no such directory"):
        find_checkpoint(name)


def test_an_unreachable_hub_is_one_line(monkeypatch):
    import huggingface_hub

    def refuse(*_, **__):
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(UsageError, match="ConnectionError from the hub: download it once"):
        find_checkpoint("openai/clip-vit-base-patch32")


@pytest.mark.parametrize(
    ("config", "wanted", "unwanted"),
    [
        ('{"model_type": "clip"}', "model.safetensors", OPEN_CLIP_WEIGHTS),
        ('{"architecture": "resnet50_clip"}', OPEN_CLIP_WEIGHTS, "model.safetensors"),
    ],
)
def test_of_a_hub_checkpoint_one_format_is_downloaded(tmp_path, monkeypatch, config, wanted, unwanted):
    """LAION's repositories hold the same weights in both formats; beside OpenAI's ResNets lies timm's config."""
    import huggingface_hub

    asked = []

    def download(name, allow_patterns):
        asked.extend(allow_patterns)
        (tmp_path / "config.json").write_text(config)
        (tmp_path / OPEN_CLIP_CONFIG).write_text("{}")
        (tmp_path / wanted).write_bytes(b"")
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert find_checkpoint("somebody/something") == tmp_path
    assert wanted in asked
    assert unwanted not in asked
    assert not any(pattern.endswith(".bin") for pattern in asked)


def test_a_checkpoint_without_transformers_config_is_open_clips(tmp_path):
    (tmp_path / OPEN_CLIP_CONFIG).write_text("{}")
    assert is_open_clip(tmp_path)
    with pytest.raises(UsageError, match=f"no weights.*{OPEN_CLIP_WEIGHTS}"):
        weight_files(tmp_path)
    (tmp_path / OPEN_CLIP_WEIGHTS).write_bytes(b"")
    assert weight_files(tmp_path) == [tmp_path / OPEN_CLIP_WEIGHTS]
    assert not is_open_clip(POCKET)


@pytest.fixture
def copy(tmp_path) -> pathlib.Path:
    return shutil.copytree(POCKET, tmp_path / "copy")


def test_a_variant_alone_is_refused_with_the_name_that_it_needs(copy):
    """What is told is done: then it is read."""
    weights = copy / "model.safetensors"
    weights.rename(copy / "model.fp16.safetensors")
    with pytest.raises(
        UsageError, match=r"\(model.fp16.safetensors only\).*rename model.fp16.safetensors to model.safe"
    ):
        weight_files(copy)
    (copy / "model.fp16.safetensors").rename(weights)
    assert weight_files(copy) == [weights]


def test_a_folder_called_as_the_weights_is_none(copy):
    (copy / "model.safetensors").unlink()
    (copy / "model.safetensors").mkdir()
    with pytest.raises(UsageError, match=r"\(no weights\).*mend: download them"):
        weight_files(copy)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ("config.json", r"shards such as model-00001-of-00002.safetensors, without (\S+)\).*mend: download \1"),
        (OPEN_CLIP_CONFIG, f"shards such as model-00001-of-00002.safetensors.*mend: download {OPEN_CLIP_WEIGHTS}"),
    ],
)
def test_shards_without_their_index_are_told_as_what_they_are(tmp_path, settings, line):
    (tmp_path / settings).write_text('{"model_type": "clip"}')
    for number in (1, 2):
        (tmp_path / f"model-0000{number}-of-00002.safetensors").write_bytes(b"")
    with pytest.raises(UsageError, match=line):
        weight_files(tmp_path)


def test_a_digest_without_weights_is_refused(copy):
    (copy / "model.safetensors").unlink()
    with pytest.raises(UsageError, match="no weights"):
        weights_digest(copy)


def test_the_digest_is_told_without_jax_torch_or_transformers():
    code = "import sys; from cachefl_jax.clip import find_checkpoint, weights_digest; "
    code += "weights_digest(find_checkpoint('pocket')); "
    code += "print(sorted({'jax', 'flax', 'torch', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "[]"


def test_every_public_name_of_the_package_is_there():
    import cachefl_jax.clip

    for name in cachefl_jax.clip.__all__:
        assert getattr(cachefl_jax.clip, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = cachefl_jax.clip.nothing


def test_a_hub_checkpoint_of_pickles_alone_is_refused_with_the_conversion(monkeypatch, tmp_path):
    import huggingface_hub

    for name in ("config.json", "preprocessor_config.json"):
        shutil.copy(POCKET / name, tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, allow_patterns: str(tmp_path))
    with pytest.raises(UsageError) as refused:
        find_checkpoint("owner/model")
    assert "no safetensors on the hub" in str(refused.value)
    assert "CLIPModel.from_pretrained('owner/model').save_pretrained('DIR')" in str(refused.value)
