"""The images that the server's cache is made of: drawn by a generator, brought along, or set apart from training."""

import functools

import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.config import default
from cachefl_jax.config.data import SUITE
from cachefl_jax.data import folder, suite
from cachefl_jax.data.bank import key_rows
from cachefl_jax.data.classes import match_among
from cachefl_jax.data.file_bytes import shared_rows
from cachefl_jax.data.images import ImageSet, LabelledImages, select
from cachefl_jax.data.sampling import shot_rows, splits_of
from cachefl_jax.data.sources import choose_images, load_images, read_source, without_broken
from cachefl_jax.errors import UsageError
from cachefl_jax.synthesis import Drawing, Request, obtain, request_of


def load_all(config: ConfigDict) -> tuple[ImageSet, LabelledImages, dict]:
    """(the source's images, the server's, what is known of how those were made).

    Raises UsageError: the source, the generator or the folder is not to be had, or lacks images of a class."""
    synthesis = config.synthesis
    if synthesis.source == "held_out":
        return set_apart(config)
    if synthesis.source == "image_folder":
        return with_brought(config)
    source = load_images(config)
    drawn = obtain(synthesis_request(config, source.class_names, source.templates))
    images = LabelledImages(drawn.images, drawn.labels, drawn.manifest["images_sha256"])
    return source, images, drawn.manifest


def with_brought(config: ConfigDict) -> tuple[ImageSet, LabelledImages, dict]:
    """As `load_all`: the server's images lie in the folder synthesis.path."""
    synthesis = config.synthesis
    source = choose_images(config)
    images = bring(synthesis.path, source.class_names, synthesis.images_per_class, config.seed)
    source, sound = without_broken(source, config, synthetic=images)
    images = sound["synthetic"]
    check_enough(images.labels, source.class_names, config)
    notes = (*source.notes, *images.notes, *leak_notes(source, images, config.cache.keys_per_class))
    about = {"source": "image_folder", "path": synthesis.path, "fingerprint": images.fingerprint}
    return source._replace(notes=notes), images, about


def bring(path: str, class_names: tuple[str, ...], count: int, seed: int) -> LabelledImages:
    """At most `count` images of each class, at random, out of class folders called as the classes are; folders of other
    classes are passed over, and the notes say so.

    Raises UsageError: the folder is not there, or lacks a class."""
    fields = default().data
    fields.update({"path": path, "splits": ("train", "", "")})
    match = functools.partial(match_among, names=class_names, field=folder.FIELD)
    try:
        found = folder.load(fields, match, known=class_names)
    except UsageError as error:
        if error.field in ("data.layout", "data.splits"):  # fields that do not hold for this folder
            found = f"{path} ({error.value})"
            raise UsageError(
                "synthesis.path", found, "a folder of class folders", "name the folder of these"
            ) from error
        field = error.field.replace(folder.FIELD, "synthesis.path")
        raise UsageError(field, error.value, error.allowed, error.mend) from error
    chosen = select(found.train, shot_rows(found.train.labels, count, seed))
    return chosen._replace(notes=tuple(f"synthesis.path: {note}" for note in found.notes))


def leak_notes(source: ImageSet, images: LabelledImages, keys_per_class: int) -> list[str]:
    """How many images that accuracy is measured on are keys of the cache themselves."""
    rows = key_rows(images.labels, len(source.class_names), keys_per_class)
    keys, notes = select(images, np.concatenate(rows)), []
    for what, split in splits_of(source).items():
        if what != "train" and (shared := len(shared_rows(split, keys))):
            told = f"{shared} of {len(split.labels)} {what} images are keys of the cache too (synthesis.path)"
            notes.append(f"{told}: {what} accuracy is measured on what the cache was made of.")
    return notes


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
    # The clients' shots are left when the server has taken its own.
    source, _ = without_broken(choose_images(config, count), config)
    labels = source.train.labels
    counts = np.bincount(labels, minlength=len(source.class_names))
    if counts.min() <= count:
        poorest = int(counts.argmin())
        class_name = source.class_names[poorest]
        allowed = f"fewer than {counts.min()}, what {class_name} has, so that it keeps an image to train on"
        mend = "lower it, or bring more training images" if counts.min() > 1 else "bring more training images"
        raise UsageError("synthesis.images_per_class", count, allowed, mend)
    rows = shot_rows(labels, count, config.seed)
    others = np.setdiff1d(np.arange(len(labels)), rows)
    images = select(source.train, rows)
    note = f"The server's images are not generated: {count} real training images of every class, which no client holds."
    source = source._replace(train=select(source.train, others), notes=(*source.notes, note))
    return source, images, {"source": "held_out", "images_per_class": count, "fingerprint": images.fingerprint}


def texts_of(data: ConfigDict) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(class names, templates) of a source, without its images where the names are known without them."""
    if data.name in SUITE and not data.split_file:
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
        how=Drawing(synthesis.steps, synthesis.guidance),
        seed=config.seed,
    )
