"""config.json read without transformers means what transformers makes of it."""

import json

import pytest
from transformers import CLIPConfig, SiglipConfig

from cachefl_jax.clip.architecture import TextConfig, VisionConfig, read_config
from cachefl_jax.errors import UsageError

THEIRS = {"clip": CLIPConfig, "siglip": SiglipConfig}
FIELDS = [
    {"model_type": "clip"},
    {"model_type": "siglip"},
    {"model_type": "clip", "text_config": None, "vision_config": {"patch_size": 16, "hidden_act": "gelu"}},
    {"model_type": "clip", "projection_dim": 768, "text_config": {"eos_token_id": 2, "num_hidden_layers": 3}},
    # OpenAI's first files: the older field counts, and what it leaves out is the default's.
    {
        "model_type": "clip",
        "text_config": {"eos_token_id": 2, "hidden_size": 512},
        "text_config_dict": {"hidden_size": 768, "num_attention_heads": 12},
        "vision_config_dict": {"hidden_size": 1024, "num_attention_heads": 16, "patch_size": 14},
    },
    {"model_type": "clip", "text_config": {"eos_token_id": 2}, "text_config_dict": None},
    {"model_type": "siglip", "text_config": {"vocab_size": 256000}, "vision_config": {"image_size": 256}},
    {"model_type": "siglip", "text_config": {"hidden_size": 1152, "projection_size": 1536}},
    {"model_type": "siglip", "text_config": {"vocab_size": 9}, "text_config_dict": {"hidden_size": 7}},
    {"model_type": "siglip", "text_config": {"eos_token_id": None, "bos_token_id": None}},
]


@pytest.mark.parametrize("fields", FIELDS, ids=range(len(FIELDS)))
def test_fields_and_their_defaults_are_transformers_own(tmp_path, fields):
    (tmp_path / "config.json").write_text(json.dumps(fields))
    ours, theirs = read_config(tmp_path), THEIRS[fields["model_type"]].from_dict(json.loads(json.dumps(fields)))
    for name in set(VisionConfig._fields) - {"vision_use_head"}:
        assert getattr(ours.vision_config, name) == getattr(theirs.vision_config, name), name
    unread = {"projection_size"} if fields["model_type"] == "clip" else {"projection_size", "eos_token_id"}
    for name in set(TextConfig._fields) - unread:
        assert getattr(ours.text_config, name) == getattr(theirs.text_config, name), name
    if fields["model_type"] == "clip":
        assert ours.projection_dim == theirs.projection_dim
        assert ours.logit_scale_init_value == theirs.logit_scale_init_value
    else:
        size = ours.text_config.projection_size or ours.text_config.hidden_size
        assert size == theirs.text_config.projection_size


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "no valid JSON"),
        ("[]", "JSON of a list"),
        ("{}", "model_type: got None; allowed: clip | siglip"),
        ('{"model_type": "bert"}', "model_type: got bert; allowed: clip | siglip"),
        ('{"model_type": ["clip"]}', "model_type: got \\['clip'\\]"),
        ('{"model_type": "siglip2"}', "model_type: got siglip2.*NaFlex"),
        ('{"model_type": "clip", "vision_config": {"hidden_act": "relu"}}', "vision_config.hidden_act: got relu"),
        ('{"model_type": "clip", "text_config": {"hidden_size": "512"}}', "text_config.hidden_size: got 512"),
        ('{"model_type": "clip", "text_config": {"eos_token_id": [1, 2]}}', "text_config.eos_token_id"),
        ('{"model_type": "clip", "text_config": {"layer_norm_eps": null}}', "text_config.layer_norm_eps: got None"),
        ('{"model_type": "clip", "text_config": 3}', "text_config: got 3"),
        ('{"model_type": "siglip", "vision_config": 3}', "vision_config: got 3"),
        ('{"model_type": "clip", "projection_dim": 0}', "projection_dim: got 0"),
        ('{"model_type": "clip", "vision_config": {"num_channels": 1}}', "num_channels: got 1"),
        ('{"model_type": "clip", "vision_config": {"num_attention_heads": 7}}', "a divisor of hidden_size, 768"),
        ('{"model_type": "clip", "vision_config": {"patch_size": 256}}', "at most image_size, 224"),
        ('{"model_type": "siglip", "vision_config": {"vision_use_head": false}}', "vision_use_head: got False"),
        (None, "a directory with a config.json"),
    ],
)
def test_what_these_towers_cannot_follow_is_refused_in_one_line(tmp_path, text, match):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(UsageError, match=match) as caught:
        read_config(tmp_path)
    assert "\n" not in str(caught.value)
