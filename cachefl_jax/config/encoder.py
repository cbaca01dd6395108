"""The CLIP that encodes images and texts."""

from ml_collections import ConfigDict

from cachefl_jax.config.field import Field, Part, Unused
from cachefl_jax.config.ranges import CHOOSE, NONE, RAISE, TEXT, TEXTS, at_least, one_of
from cachefl_jax.templates import check_templates


def check(config: ConfigDict) -> None:
    """Whether the templates are some."""
    check_templates("clip.templates", config.clip.templates)


IMAGES = ("clip.checkpoint", "clip.templates", "clip.dtype", "clip.batch_size")


# fmt: off
ENCODER = Part((
    Field("clip.checkpoint", "pocket", "the CLIP: the embedded one, a directory, or a hub name", *TEXT, NONE),
    Field("clip.templates", (), "texts with one {} for a class's name; none = the data set's own", *TEXTS, NONE),
    Field("clip.dtype", "float32", "what the towers compute in; float32_3x: three bfloat16 products of about float32's "
          "accuracy, faster where the device has them", *one_of("float32", "float32_3x", "bfloat16"), CHOOSE),
    Field("clip.batch_size", 0, "images an encoding step; 0 = choose", *at_least(0), "0 lets the encoder choose"),
    Field("clip.key_views", 0, "random crops of a synthetic image, averaged into its key; 0 = the plain image",
          *at_least(0, 10_000), "0 takes the plain images"),
    Field("clip.train_views", 0, "random crops of a training image, one a round in turn; 0 = the plain image",
          *at_least(0, 10_000), "0 takes the plain images"),
    Field("clip.views_seed", 0, "what the crops are drawn from", *at_least(0), RAISE),
), check, (
    Unused(IMAGES, lambda config: config.data.name != "feature_bank", "data.name"),
    Unused(
        ("clip.views_seed",), lambda config: config.clip.key_views + config.clip.train_views > 0, "clip.key_views"
    ),
))
