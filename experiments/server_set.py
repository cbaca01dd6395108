"""The images that the server's cache is made of: drawn by a generator, brought along, or set apart from training."""

import functools

import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.config import default
from cachefl_jax.data import folder, suite
from cachefl_jax.data.broken import check_images
from cachefl_jax.data.classes import match_classes
from cachefl_jax.data.images import ImageSet, LabelledImages, select
from cachefl_jax.data.sampling import shot_rows
from cachefl_jax.data.sources import load_images, read_source
from cachefl_jax.errors import UsageError
from cachefl_jax.synthesis import Request, obtain, request_of


def load_all(config: ConfigDict) -> tuple[ImageSet, LabelledImages, dict]:
    """(the source's images, the server's, what is known of how those were made).

    Raises:
        UsageError: the source, the generator or the folder is not to be had, or lacks images of a class.
    """
    synthesis = config.synthesis
    if synthesis.source == "held_out":
        return set_apart(config)
    source = load_images(config)
    if synthesis.source == "image_folder":
        count = synthesis.images_per_class
        images = bring(synthesis.path, source.class_names, count, config.seed, config.data.broken)
        check_enough(images.labels, source.class_names, config)
        source = source._replace(notes=(*source.notes, *images.notes))
        return source, images, {"source": "image_folder", "path": synthesis.path, "fingerprint": images.fingerprint}
    drawn = obtain(synthesis_request(config, source.class_names, source.templates))
    images = LabelledImages(drawn.images, drawn.labels, drawn.manifest["images_sha256"])
    return source, images, drawn.manifest


def bring(path: str, class_names: tuple[str, ...], count: int, seed: int, broken: str) -> LabelledImages:
    """At most `count` images of each class, at random, out of class folders called as the classes are.

    Raises:
        UsageError: the folder is not there, its classes are others, or images are broken.
    """
    layout = default().data
    layout.update({"path": path, "splits": ("", "", "")})
    match = functools.partial(match_classes, names=class_names, spelled=class_names, field=folder.FIELD)
    try:
        found = folder.load(layout, match).train
        return check_images(select(found, shot_rows(found.labels, count, seed)), "synthetic", broken)
    except UsageError as error:
        field = error.field.replace(folder.FIELD, "synthesis.path")
        raise UsageError(field, error.value, error.allowed, error.mend) from error


def check_enough(labels: np.ndarray, class_names: tuple[str, ...], config: ConfigDict) -> None:
    """Refuses images that are too few for the cache, before any is encoded."""
    counts, least = np.bincount(labels, minlength=len(class_names)), config.cache.keys_per_class
    if counts.min() < least:
        found = f"{config.synthesis.path} ({counts.min()} images of {class_names[counts.argmin()]})"
        allowed = f"{least} or more of every class, as many as cache.keys_per_class"
        raise UsageError("synthesis.path", found, allowed, "bring more images, or lower cache.keys_per_class")


def set_apart(config: ConfigDict) -> tuple[ImageSet, LabelledImages, dict]:
    """As `load_all`: the server holds images_per_class real images of every class, which no client gets."""
    count = config.synthesis.images_per_class
    wanted = config.copy_and_resolve_references()
    if config.data.shots:
        wanted.data.shots += count  # the clients' shots are left when the server has taken its own
    source = load_images(wanted)
    labels = source.train.labels
    counts = np.bincount(labels, minlength=len(source.class_names))
    if counts.min() <= count:
        poorest = int(counts.argmin())
        class_name = source.class_names[poorest]
        allowed = f"fewer than {counts.min()}, what {class_name} has, so that it keeps an image to train on"
        raise UsageError("synthesis.images_per_class", count, allowed, "lower it, or bring more training images")
    rows = shot_rows(labels, count, config.seed)
    others = np.setdiff1d(np.arange(len(labels)), rows)
    images = select(source.train, rows)
    note = f"The server's images are not generated: {count} real training images of every class, which no client holds."
    source = source._replace(train=select(source.train, others), notes=(*source.notes, note))
    return source, images, {"source": "held_out", "images_per_class": count, "fingerprint": images.fingerprint}


def texts_of(data: ConfigDict) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(class names, templates) of a source, without its images where the names are known without them."""
    if data.name in suite.names() and not data.split_file:
        known = suite.named(data.name)
        return tuple(data.class_names) or known.class_names, known.templates
    source = read_source(data)
    return source.class_names, source.templates


def synthesis_request(config: ConfigDict, class_names: tuple[str, ...], templates: tuple[str, ...]) -> Request:
    """What the server's generator is asked for; `templates` where the config names no prompts."""
    synthesis = config.synthesis
    return request_of(
        pipeline="pocket" if synthesis.source == "pocket" else synthesis.pipeline,
        class_names=class_names,
        templates=tuple(synthesis.prompts) or templates,
        images_per_class=synthesis.images_per_class,
        seed=config.seed,
        steps=synthesis.steps,
        guidance=synthesis.guidance,
    )
