"""The images that the server draws, or has."""

from ml_collections import ConfigDict

from cachefl_jax.config.field import Field, Part, Unused, lookup, only
from cachefl_jax.config.ranges import CHOOSE, FINITE, NONE, RAISE, TEXT, TEXTS, at_least, between, finite, one_of
from cachefl_jax.errors import UsageError
from cachefl_jax.templates import check_templates

DRAWN = ("pocket", "diffusers")  # by a generator
IMAGES = (*DRAWN, "image_folder", "held_out")
SOURCES = (*IMAGES, "bank")
DRAWING = tuple(
    f"synthesis.{name}"
    for name in (
        *("prompts", "prompts_file", "language_model", "steps", "guidance", "height", "width", "dtype"),
        *("batch_size", "file_format", "price_gpu_hour"),
    )
)
# What configs/images.py sets for a generator of diffusers, whoever draws with none.
SHIPPED = {"synthesis.pipeline": "stable-diffusion-v1-5/stable-diffusion-v1-5", "synthesis.guidance": 7.5}
PIXELS = tuple(f"synthesis.{name}" for name in ("images_per_class", "review", "least_sharpness", "duplicates"))
BESIDE = (*DRAWN, "image_folder")  # real images may be keys beside these


def check(config: ConfigDict) -> None:
    """Where the server's images may come from, and how many keys they make."""
    check_templates("synthesis.prompts", config.synthesis.prompts)
    check_source(config)
    check_prompts(config)
    synthesis, keys = config.synthesis, config.cache.keys_per_class
    real = synthesis.real_images if synthesis.source in BESIDE else 0
    if real > keys:
        mend = "lower it, or raise cache.keys_per_class"
        raise UsageError("synthesis.real_images", real, f"0 to cache.keys_per_class, {keys}", mend)
    if synthesis.source != "bank" and keys > synthesis.images_per_class + real:
        allowed = f"1 to synthesis.images_per_class, {synthesis.images_per_class}"
        allowed += f", and synthesis.real_images, {real}, together" if real else ""
        raise UsageError("cache.keys_per_class", keys, allowed, "lower it, or draw more images")


def check_prompts(config: ConfigDict) -> None:
    """One thing alone says what the generator is asked for."""
    given = [name for name in PROMPTS if lookup(config, name)]
    if len(given) > 1:
        mend = f"leave {' and '.join(given[1:])} out"
        raise UsageError(given[0], lookup(config, given[0]), f"one of {', '.join(PROMPTS)}", mend)
    if config.synthesis.selection == "shots" and not config.synthesis.real_images:
        mend = "--config.synthesis.real_images=2, or synthesis.selection=herding, which needs none"
        raise UsageError("synthesis.selection", "shots", "synthesis.real_images of 1 or more beside it", mend)


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


SELECTIONS = ("first", "margin", "farthest", "medoids", "herding", "shots", "mixture", "means")
PROMPTS = ("synthesis.prompts", "synthesis.prompts_file", "synthesis.language_model")

# fmt: off
SYNTHESIS = Part((
    Field("synthesis.source", "pocket", "where the server's images come from",
          *one_of(*SOURCES), CHOOSE),
    Field("synthesis.path", "", "synthesis.source=image_folder: class folders of images drawn elsewhere", *TEXT, NONE),
    Field("synthesis.images_per_class", 16, "images of a class that the server draws, or takes of what it has",
          *at_least(1), RAISE),
    Field("synthesis.real_images", 0, "of each class's keys: real images, set apart from training, beside drawn ones",
          *at_least(0), "0 makes no key of a real image"),
    Field("synthesis.prompts", (), "texts with one {}, taken in turn; none = the data set's own templates",
          *TEXTS, NONE),
    Field("synthesis.prompts_file", "", "a JSON file with a list of prompts for every class, taken in turn",
          *TEXT, NONE),
    Field("synthesis.language_model", "", "what describes each class: grammar, a text-generation model's directory or "
          "hub name; none = templates", *TEXT, NONE),
    Field("synthesis.descriptions", 16, "different descriptions of a class that synthesis.language_model is asked for",
          *at_least(1, 10_000), RAISE),
    Field("synthesis.pipeline", "", "synthesis.source=diffusers: a pipeline's directory or hub name", *TEXT, NONE),
    Field("synthesis.steps", 20, "denoising steps an image", *at_least(1), RAISE),
    Field("synthesis.guidance", 2.0, "how far the prompt guides the generator (classifier-free guidance)",
          *finite(0), FINITE),
    Field("synthesis.height", 0, "of drawn images, in pixels; 0 = the pipeline's own", *at_least(0, 2**14), RAISE),
    Field("synthesis.width", 0, "of drawn images, in pixels; 0 = the pipeline's own", *at_least(0, 2**14), RAISE),
    Field("synthesis.dtype", "float32", "what the pipeline computes in",
          *one_of("float32", "bfloat16", "float16"), CHOOSE),
    Field("synthesis.batch_size", 16, "images drawn at once", *at_least(1, 2**14), "lower it where memory is short"),
    Field("synthesis.file_format", "png", "of the drawn images' files; both keep every pixel",
          *one_of("png", "webp"), CHOOSE),
    Field("synthesis.review", (), "review.json files of the set's page: images marked wrong there become no keys",
          *TEXTS, NONE),
    Field("synthesis.least_sharpness", 0.0, "images whose grey levels have a Laplacian of less variance become no keys",
          *finite(0), FINITE),
    Field("synthesis.duplicates", "keep", "drop: of near-duplicate images of a class one becomes a key",
          *one_of("keep", "drop"), CHOOSE),
    Field("synthesis.selection", "first", "which of a class's images become its cache.keys_per_class keys",
          *one_of(*SELECTIONS), CHOOSE),
    Field("synthesis.mixture", 0.5, "synthesis.selection=mixture: share of the keys that are chosen by margin, the "
          "rest by distance", *between(0, 1, closed=True), FINITE),
    Field("synthesis.price_gpu_hour", 0.0, "what an hour of the drawing machine costs, in any currency; 0 = not told",
          *finite(0), FINITE),
), check, (
    only(("synthesis.path",), "synthesis.source", "image_folder"),
    only(("synthesis.pipeline",), "synthesis.source", "diffusers"),
    only(DRAWING, "synthesis.source", *DRAWN),
    Unused(("synthesis.descriptions",), lambda config: bool(config.synthesis.language_model),
           "synthesis.language_model"),
    only(("synthesis.real_images",), "synthesis.source", *BESIDE),
    only(PIXELS, "synthesis.source", *IMAGES),
    only(("synthesis.mixture",), "synthesis.selection", "mixture"),
))
