"""``open_clip_config.json``: which towers a checkpoint in open_clip's format has, and how it wants its images.

Only the plain architectures are taken: whatever a config switches on that these towers do not compute is refused by
name, because its numbers would come out wrong without a word.
"""

import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from PIL import Image

from cachefl_jax.clip.architecture import LARGEST, TextConfig, VisionConfig
from cachefl_jax.clip.checkpoint import FIELD, OPEN_CLIP_CONFIG, read_fields
from cachefl_jax.clip.images import DEFAULTS, Preparation, is_number
from cachefl_jax.clip.resnet import STRIDE, ResNetShape
from cachefl_jax.errors import UsageError

TAKE_OWN = "take the checkpoint's own config"
# Fields that are read, or that change nothing in a frozen tower; any other must be absent, off or plain.
READ = {
    "model_cfg": {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg", "init_logit_scale"},
    "vision_cfg": {"layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size", "patch_dropout"},
    "text_cfg": {"layers", "width", "heads", "mlp_ratio", "context_length", "vocab_size"}
    | {"hf_tokenizer_name", "pad_id"},
}
PLAIN = {"vision_cfg.pool_type": "tok", "vision_cfg.pos_embed_type": "learnable"}
PLAIN |= {"text_cfg.pool_type": "argmax", "text_cfg.proj_type": "linear", "text_cfg.eos_id": 2}
RESAMPLE = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
WIDEST = 100  # a block's inner layer, in times its width
SILENT = DEFAULTS["CLIPImageProcessor"]  # OpenAI's numbers, which open_clip takes where a config is silent


class OpenClipConfig(NamedTuple):
    """What a config says of the model."""

    vision: ResNetShape | VisionConfig
    text: TextConfig
    features: int  # D


class Section(NamedTuple):
    """A group of the file's fields."""

    path: pathlib.Path
    name: str  # dots from group to group; "" is the whole file
    fields: Mapping

    def called(self, field: str) -> str:
        """What a refusal calls one of the fields."""
        return f"{self.path}: {self.name}.{field}" if self.name else f"{self.path}: {field}"

    def section(self, name: str, needed: bool = True) -> "Section":
        """The group `name` in this one; an empty one where it is absent and not needed."""
        fields = self.fields.get(name)
        if fields is None and not needed:
            fields = {}
        if not isinstance(fields, dict):
            raise UsageError(self.called(name), fields, "a group of fields", TAKE_OWN)
        return Section(self.path, f"{self.name}.{name}" if self.name else name, fields)

    def whole(self, name: str, default: int | None = None) -> int:
        """The positive whole number `name`."""
        return whole(self.called(name), self.fields.get(name, default))


def read_open_clip_config(directory: pathlib.Path) -> OpenClipConfig:
    """The towers of a checkpoint.

    Raises UsageError: the file is missing or broken, or asks for towers other than CLIP's own."""
    model = read_section(directory).section("model_cfg")
    vision, text = model.section("vision_cfg"), model.section("text_cfg")
    for section in (model, vision, text):
        refuse_other_towers(section)
    features = model.whole("embed_dim")
    activation = "quick_gelu" if model.fields.get("quick_gelu") else "gelu"
    residual = isinstance(vision.fields.get("layers", 12), list)
    tower = resnet_shape(vision, features) if residual else vision_config(vision, activation)
    return OpenClipConfig(tower, text_config(text, activation), features)


def read_section(directory: pathlib.Path) -> Section:
    """The whole file."""
    path = directory / OPEN_CLIP_CONFIG
    if not path.is_file():
        mend = "name a checkpoint in open_clip's format"
        raise UsageError(FIELD, str(directory), f"a directory with an {OPEN_CLIP_CONFIG}", mend)
    return Section(path, "", read_fields(path))


def refuse_other_towers(section: Section) -> None:
    group = section.name.split(".")[-1]
    for name, value in section.fields.items():
        if value and name not in READ[group] and value != PLAIN.get(f"{group}.{name}"):
            allowed = "CLIP's own towers: a ResNet of four stages or a ViT, and the text transformer"
            raise UsageError(section.called(name), value, allowed, "choose another checkpoint")


def resnet_shape(vision: Section, features: int) -> ResNetShape:
    blocks, size, width = vision.fields["layers"], image_size(vision), vision.whole("width")
    if len(blocks) != 4:
        raise UsageError(vision.called("layers"), blocks, "the blocks of four stages", "choose another checkpoint")
    blocks = tuple(whole(vision.called("layers"), count) for count in blocks)
    if width % 2:
        raise UsageError(vision.called("width"), width, "an even number", TAKE_OWN)
    if size % STRIDE:
        raise UsageError(vision.called("image_size"), size, f"a multiple of {STRIDE}", TAKE_OWN)
    return ResNetShape(blocks, width, heads(vision, 32 * width), size, features)


def vision_config(vision: Section, activation: str) -> VisionConfig:
    width = vision.whole("width", 768)
    return VisionConfig(
        hidden_size=width,
        intermediate_size=inner_width(vision, width),
        num_hidden_layers=vision.whole("layers", 12),
        num_attention_heads=heads(vision, width),
        image_size=image_size(vision),
        patch_size=vision.whole("patch_size", 16),
        hidden_act=activation,
    )


def text_config(text: Section, activation: str) -> TextConfig:
    width, count = text.whole("width", 512), text.whole("heads", 8)
    if width % count:
        raise UsageError(text.called("heads"), count, f"a divisor of the width {width}", TAKE_OWN)
    return TextConfig(
        vocab_size=text.whole("vocab_size", 49408),
        hidden_size=width,
        intermediate_size=inner_width(text, width),
        num_hidden_layers=text.whole("layers", 12),
        num_attention_heads=count,
        max_position_embeddings=text.whole("context_length", 77),
        hidden_act=activation,
        eos_token_id=2,  # a caption ends at its largest id, as the tower reads this number
    )


def heads(vision: Section, width: int) -> int:
    of_each = vision.whole("head_width", 64)
    if width % of_each:
        raise UsageError(vision.called("head_width"), of_each, f"a divisor of {width}", TAKE_OWN)
    return width // of_each


def inner_width(section: Section, width: int) -> int:
    ratio = section.fields.get("mlp_ratio", 4.0)
    if not is_number(ratio) or not 0 < ratio <= WIDEST:
        raise UsageError(section.called("mlp_ratio"), ratio, f"a number above 0, {WIDEST} or less", TAKE_OWN)
    return int(width * ratio)


def image_size(vision: Section) -> int:
    """Pixels a side; a pair of equal ones will do."""
    size = vision.fields.get("image_size", 224)
    alike = isinstance(size, list) and len(size) == 2 and size[0] == size[1]
    return whole(vision.called("image_size"), size[0] if alike else size)


def whole(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= LARGEST:
        raise UsageError(name, value, f"a whole number from 1 to {LARGEST}", TAKE_OWN)
    return value


def read_open_clip_preparation(directory: pathlib.Path) -> Preparation:
    """What open_clip's own evaluation does to an image, from ``preprocess_cfg`` and the image tower's size.

    Raises UsageError: the file is missing or broken, or asks for another way of resizing."""
    config = read_section(directory)
    size = image_size(config.section("model_cfg").section("vision_cfg"))
    wishes = config.section("preprocess_cfg", needed=False)
    squash = choice(wishes, "resize_mode", ("shortest", "squash")) == "squash"
    return Preparation(
        resize=(size, size) if squash else size,
        crop=None if squash else (size, size),
        resample=RESAMPLE[choice(wishes, "interpolation", tuple(RESAMPLE))],
        mean=channels(wishes, "mean"),
        std=channels(wishes, "std"),
        white=False,
        half_to_even=True,  # torchvision's
    )


def choice(section: Section, name: str, allowed: Sequence[str]) -> str:
    """One of `allowed`, the first where the config is silent."""
    value = section.fields.get(name) or allowed[0]
    if value not in allowed:
        raise UsageError(section.called(name), value, " | ".join(allowed), "choose another checkpoint")
    return value


def channels(section: Section, name: str) -> tuple[float, float, float]:
    """A finite number for each colour; a deviation is above 0."""
    value = section.fields.get(name) or SILENT[f"image_{name}"]
    least = 0 if name == "std" else -math.inf
    three = isinstance(value, list | tuple) and len(value) == 3
    if not three or not all(is_number(number) and number > least for number in value):
        raise UsageError(section.called(name), value, "three numbers, a deviation above 0", TAKE_OWN)
    return tuple(map(float, value))
