"""What a checkpoint's ``config.json`` says its towers are, read without transformers.

The fields carry transformers' names, and its defaults stand where a file leaves one out: older files leave out most.
"""

import pathlib
from typing import Any, NamedTuple

from cachefl_jax.clip.checkpoint import FIELD, read_fields
from cachefl_jax.errors import UsageError
from cachefl_jax.foreign_code import refuse_code

LARGEST = 2**31 - 1  # of a config's numbers
ACTIVATIONS = ("quick_gelu", "gelu", "gelu_pytorch_tanh")


class VisionConfig(NamedTuple):
    """The image tower; the defaults are those of CLIP ViT-B/32."""

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    num_channels: int = 3
    image_size: int = 224
    patch_size: int = 32
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    vision_use_head: bool = True  # SigLIP's: without its head there are no features


class TextConfig(NamedTuple):
    """The text tower; the defaults are those of CLIP ViT-B/32."""

    vocab_size: int = 49408
    hidden_size: int = 512
    intermediate_size: int = 2048
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    max_position_embeddings: int = 77
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    eos_token_id: int = 49407  # CLIP's; 2 stands for the largest id of a text
    projection_size: int | None = None  # SigLIP's: features, where they are not as many as the width


class CLIPConfig(NamedTuple):
    """Both towers and what joins them."""

    model_type: str = "clip"
    vision_config: VisionConfig = VisionConfig()
    text_config: TextConfig = TextConfig()
    projection_dim: int = 512
    logit_scale_init_value: float = 2.6592


SIGLIP_VISION = VisionConfig(patch_size=16, hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-6)
SIGLIP_TEXT = TextConfig(
    vocab_size=32000,
    hidden_size=768,
    intermediate_size=3072,
    num_attention_heads=12,
    max_position_embeddings=64,
    hidden_act="gelu_pytorch_tanh",
    layer_norm_eps=1e-6,
)
DEFAULTS = {"clip": CLIPConfig(), "siglip": CLIPConfig("siglip", SIGLIP_VISION, SIGLIP_TEXT)}
REFUSED = {
    "siglip2": "NaFlex takes images of any shape: name a SigLIP 2 checkpoint of fixed resolution, such as ...-224"
}


def read_config(directory: pathlib.Path) -> CLIPConfig:
    """The towers that ``config.json`` describes.

    Raises UsageError: no such file, no JSON, another kind of model, or a field that these towers cannot follow."""
    path = directory / "config.json"
    if not path.is_file():
        raise UsageError(FIELD, str(directory), "a directory with a config.json", "name a CLIP checkpoint's directory")
    fields = read_fields(path)
    refuse_code(path, fields)
    return config_of(fields, str(path))


def config_of(fields: dict, where: str) -> CLIPConfig:
    """The towers that a config's fields describe; `where` is what a refusal calls the file."""
    kind = str(fields.get("model_type"))
    if kind not in DEFAULTS:
        mend = REFUSED.get(kind, "name a CLIP or SigLIP checkpoint")
        raise UsageError(f"{where}: model_type", kind, " | ".join(DEFAULTS), mend)
    defaults = DEFAULTS[kind]
    vision = replaced(defaults.vision_config, tower_fields(fields, "vision", where), where, "vision_config.")
    text_fields = tower_fields(fields, "text", where)
    if kind == "siglip":  # which reads the last token, whatever that is
        text_fields = {name: value for name, value in text_fields.items() if name != "eos_token_id"}
    text = replaced(defaults.text_config, text_fields, where, "text_config.")
    outer = {name: fields[name] for name in ("projection_dim", "logit_scale_init_value") if name in fields}
    config = replaced(defaults, outer, where, "")._replace(vision_config=vision, text_config=text)
    check_sizes(config, where)
    return config


def tower_fields(fields: dict, tower: str, where: str) -> dict:
    """A tower's own fields. OpenAI's first files carry ``..._config_dict`` too, which then counts alone."""
    old = fields.get(f"{tower}_config_dict") if fields["model_type"] == "clip" else None
    given = old if old is not None else fields.get(f"{tower}_config") or {}
    if not isinstance(given, dict):
        raise UsageError(f"{where}: {tower}_config", given, "an object", "download the file again")
    return given


def replaced(defaults: Any, fields: dict, where: str, prefix: str) -> Any:
    """`defaults` with the fields that are given, each checked against the type of its default."""
    known = {name: fields[name] for name in defaults._fields if name in fields}
    for name, value in known.items():
        allowed = misfit(name, value, getattr(defaults, name))
        if allowed:
            raise UsageError(f"{where}: {prefix}{name}", value, allowed, "choose another checkpoint")
    return defaults._replace(**known)


def misfit(name: str, value: Any, sample: Any) -> str | None:
    """What would have been allowed where `value` is not; None where it is."""
    if name == "hidden_act":
        return None if value in ACTIVATIONS else " | ".join(ACTIVATIONS)
    if name == "vision_use_head":
        return None if value is True else "true"
    if isinstance(sample, float):
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        low, high = (-100, 100) if name == "logit_scale_init_value" else (0, 1)  # the other is layer norms' epsilon
        return None if number and low <= value <= high else f"a number from {low} to {high}"
    if value is None and sample is None:
        return None
    least = 0 if name == "eos_token_id" else 1
    whole = isinstance(value, int) and not isinstance(value, bool)
    return None if whole and least <= value <= LARGEST else f"a whole number from {least} to {LARGEST}"


def check_sizes(config: CLIPConfig, where: str) -> None:
    """Refuses sizes that do not go together."""
    vision, mend = config.vision_config, "choose another checkpoint"
    for name, tower in (("vision_config", vision), ("text_config", config.text_config)):
        if tower.hidden_size % tower.num_attention_heads:
            allowed = f"a divisor of hidden_size, {tower.hidden_size}"
            raise UsageError(f"{where}: {name}.num_attention_heads", tower.num_attention_heads, allowed, mend)
    if vision.num_channels != 3:
        raise UsageError(f"{where}: vision_config.num_channels", vision.num_channels, "3, red, green and blue", mend)
    if vision.patch_size > vision.image_size:
        allowed = f"at most image_size, {vision.image_size}"
        raise UsageError(f"{where}: vision_config.patch_size", vision.patch_size, allowed, mend)
