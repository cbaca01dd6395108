"""The images that the server draws, or has."""

from ml_collections import ConfigDict

from cachefl_jax.config.field import Field, Part, only
from cachefl_jax.config.ranges import CHOOSE, FINITE, NONE, RAISE, TEXT, TEXTS, at_least, finite, one_of
from cachefl_jax.errors import UsageError
from cachefl_jax.templates import check_templates

DRAWN = ("pocket", "diffusers")  # by a generator
IMAGES = (*DRAWN, "image_folder", "held_out")
SOURCES = (*IMAGES, "bank")
BESIDE = (*DRAWN, "image_folder")  # real images may be keys beside these


def check(config: ConfigDict) -> None:
    """Where the server's images may come from, and how many keys they make."""
    check_templates("synthesis.prompts", config.synthesis.prompts)
    check_source(config)
    synthesis, keys = config.synthesis, config.cache.keys_per_class
    real = synthesis.real_images if synthesis.source in BESIDE else 0
    if real > keys:
        mend = "lower it, or raise cache.keys_per_class"
        raise UsageError("synthesis.real_images", real, f"0 to cache.keys_per_class, {keys}", mend)
    if synthesis.source != "bank" and keys > synthesis.images_per_class + real:
        allowed = f"1 to synthesis.images_per_class, {synthesis.images_per_class}"
        allowed += f", and synthesis.real_images, {real}, together" if real else ""
        raise UsageError("cache.keys_per_class", keys, allowed, "lower it, or draw more images")


def check_source(config: ConfigDict) -> None:
    """Where the server's images may come from, for this data."""
    synthesis, name = config.synthesis, config.data.name
    if name == "feature_bank" or synthesis.source == "bank":
        if name != "feature_bank" or synthesis.source != "bank":
            allowed = "bank" if name == "feature_bank" else " | ".join(IMAGES)
            mend = f"data.name={name} takes its set from there"
            raise UsageError("synthesis.source", synthesis.source, allowed, mend)
        return
    if synthesis.source == "pocket" and name != "digits":
        allowed = f"{' | '.join(IMAGES[1:])}: the embedded generator draws digits alone"
        mend = "--config.synthesis.source=held_out needs nothing else"
        raise UsageError("synthesis.source", "pocket", allowed, mend)
    if synthesis.source == "diffusers" and not synthesis.pipeline:
        mend = "--config.synthesis.pipeline=DIR, or synthesis.source=held_out"
        raise UsageError("synthesis.pipeline", "", "a diffusers directory or hub name", mend)
    if synthesis.source == "image_folder" and not synthesis.path:
        raise UsageError("synthesis.path", "", "a folder of class folders", "--config.synthesis.path=DIR")


# fmt: off
SYNTHESIS = Part((
    Field("synthesis.source", "pocket", "where the server's images come from",
          *one_of(*SOURCES), CHOOSE),
    Field("synthesis.path", "", "synthesis.source=image_folder: class folders of images drawn elsewhere", *TEXT, NONE),
    Field("synthesis.images_per_class", 16, "images of a class that the server draws", *at_least(1), RAISE),
    Field("synthesis.real_images", 0, "of each class's keys: real images, set apart from training, beside drawn ones",
          *at_least(0), "0 makes no key of a real image"),
    Field("synthesis.pipeline", "", "synthesis.source=diffusers: a pipeline's directory or hub name", *TEXT, NONE),
    Field("synthesis.prompts", (), "texts with one {}, taken in turn; none = the data set's own templates",
          *TEXTS, NONE),
    Field("synthesis.steps", 20, "denoising steps an image", *at_least(1), RAISE),
    Field("synthesis.guidance", 2.0, "how far the prompt guides the generator (classifier-free guidance)",
          *finite(0), FINITE),
), check, (
    only(("synthesis.path",), "synthesis.source", "image_folder"),
    only(("synthesis.pipeline",), "synthesis.source", "diffusers"),
    only(("synthesis.prompts", "synthesis.steps", "synthesis.guidance"), "synthesis.source", *DRAWN),
    only(("synthesis.real_images",), "synthesis.source", *BESIDE),
    only(("synthesis.images_per_class",), "synthesis.source", *IMAGES),
))
