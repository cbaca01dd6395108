"""A config that claims more than its weights hold is refused by their names and shapes, before anything is built."""

import json
import shutil

import pytest

from cachefl_jax.clip import load_clip
from cachefl_jax.clip.architecture import CLIPConfig, TextConfig, VisionConfig
from cachefl_jax.clip.checkpoint import POCKET
from cachefl_jax.clip.claims import check_claims, config_claims, open_clip_claims
from cachefl_jax.clip.resnet import ResNetShape
from cachefl_jax.errors import UsageError

MANY = 10**7


@pytest.fixture
def changed(tmp_path, monkeypatch):
    """(group, field, value) -> the pocket checkpoint with this in its config; building towers is an error."""

    def refuse(*_, **__):
        raise AssertionError("towers are built")

    monkeypatch.setattr("cachefl_jax.clip.weights.abstract_clip", refuse)

    def change(group: str, field: str, value):
        folder = shutil.copytree(POCKET, tmp_path / "clip")
        fields = json.loads((folder / "config.json").read_text())
        (fields[group] if group else fields)[field] = value
        (folder / "config.json").write_text(json.dumps(fields))
        return folder

    return change


@pytest.mark.parametrize(
    ("group", "field", "value", "allowed"),
    [
        ("text_config", "num_hidden_layers", MANY, "2, the layers in the weights"),
        ("vision_config", "num_hidden_layers", MANY, "4, the layers in the weights"),
        ("vision_config", "num_hidden_layers", 3, "4, the layers in the weights"),
        ("text_config", "hidden_size", 4 * 10**6, "at most 604, the weights' longest side"),
        ("text_config", "intermediate_size", MANY, "at most 604"),
        ("text_config", "vocab_size", MANY, "at most 604"),
        ("text_config", "max_position_embeddings", MANY, "at most 604"),
        ("vision_config", "image_size", MANY, "at most 604"),
        ("", "projection_dim", MANY, "at most 604"),
        ("vision_config", "hidden_size", -128, "a whole number from 1 to 2147483647"),
        ("text_config", "num_hidden_layers", 10**30, "a whole number from 1 to 2147483647"),
        ("text_config", "eos_token_id", 10**30, "a whole number from 0 to 2147483647"),
        ("text_config", "layer_norm_eps", -1e-5, "a number from 0 to 1"),
        ("text_config", "layer_norm_eps", 10**400, "a number from 0 to 1"),
        ("", "logit_scale_init_value", float("nan"), "a number from -100 to 100"),
    ],
)
def test_an_absurd_size_is_named_in_one_line(changed, group, field, value, allowed):
    name = f"config.json: {group}.{field}" if group else f"config.json: {field}"
    with pytest.raises(UsageError) as told:
        load_clip(changed(group, field, value))
    assert name in str(told.value)
    assert f"allowed: {allowed}" in str(told.value)
    assert "\n" not in str(told.value)


def test_weights_by_other_names_bound_the_layers_too():
    claims = config_claims(CLIPConfig(text_config=TextConfig(num_hidden_layers=MANY)))
    with pytest.raises(UsageError, match="num_hidden_layers: got 10000000; allowed: at most 2, the number of tensors"):
        check_claims(claims._replace(layers=dict(reversed(claims.layers.items()))), {"a": (9,), "b": (9, 9)}, "x")


SHAPE, TEXT = ResNetShape((1, 2, 1, 1), 8, 4, 64, 16), TextConfig(num_hidden_layers=1, vocab_size=9)
NAMES = {f"visual.layer{stage}.0.conv1.weight": (3000, 3000) for stage in (1, 2, 3, 4)}
NAMES |= {"visual.layer2.1.conv1.weight": (8, 8), "transformer.resblocks.0.ln_1.weight": (8,)}


@pytest.mark.parametrize(
    ("vision", "text", "match"),
    [
        (SHAPE._replace(blocks=(1, MANY, 1, 1)), TEXT, r"vision_cfg.layers \(stage 2\): got 10000000; allowed: 2"),
        (SHAPE, TEXT._replace(num_hidden_layers=MANY), "text_cfg.layers: got 10000000; allowed: 1"),
        (SHAPE._replace(width=MANY), TEXT, "vision_cfg.width: got a size .* 10000000 a side; allowed: at most 3000"),
        (VisionConfig(num_hidden_layers=MANY), TEXT, "vision_cfg.layers: got 10000000; allowed: at most 6"),
        (SHAPE, TEXT._replace(max_position_embeddings=MANY), "text_cfg.context_length"),
    ],
)
def test_open_clips_configs_are_held_to_the_weights_too(vision, text, match):
    check_claims(open_clip_claims(SHAPE, TEXT, 16), NAMES, "x")
    with pytest.raises(UsageError, match=match):
        check_claims(open_clip_claims(vision, text, 16), NAMES, "x")
