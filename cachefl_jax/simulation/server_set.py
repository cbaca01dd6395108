"""The images that the server's cache is made of: drawn by a generator, brought along, or set apart from training."""

import functools

import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.config import default
from cachefl_jax.config.data import is_described
from cachefl_jax.data import folder, suite
from cachefl_jax.data.classes import match_among
from cachefl_jax.data.images import Images, ImageSet, LabelledImages, file_of, fingerprint_of, select
from cachefl_jax.data.sampling import shot_rows
from cachefl_jax.data.sources import choose_images, read_source, without_broken
from cachefl_jax.errors import UsageError
from cachefl_jax.simulation.left_out import without_dropped
from cachefl_jax.simulation.reviewed import without_marked
from cachefl_jax.simulation.server_prompts import prompts_json, prompts_words
from cachefl_jax.synthesis import Drawing, Request, obtain, request_of
from cachefl_jax.synthesis.prompts import in_turn


def load_all(config: ConfigDict) -> tuple[ImageSet, LabelledImages, dict]:
    """(the source's images, those of the server's that may become keys, what is known of how those were made).

    Raises UsageError: the source, the generator or the folder is not to be had, or lacks images of a class."""
    source, images, about = load_candidates(config)
    images, notes = without_dropped(images, source.class_names, config)
    return source._replace(notes=(*source.notes, *notes)), images, about


def load_candidates(config: ConfigDict) -> tuple[ImageSet, LabelledImages, dict]:
    """As `load_all`, with all of the server's images."""
    synthesis = config.synthesis
    if synthesis.source == "held_out":
        return set_apart(config)
    real = synthesis.real_images  # the clients' shots are left when the server has taken its own
    beside = {}
    source = choose_images(config, real)
    if synthesis.source == "image_folder":
        beside["synthetic"] = bring(config, source.class_names)
    source, sound = without_broken(source, config, **beside)
    source, own = take_apart(source, real, config.seed, "synthesis.real_images")
    if sound:
        images, about = sound["synthetic"], {"source": "image_folder", "path": synthesis.path}
        about["fingerprint"] = images.fingerprint
        source = source._replace(notes=(*source.notes, *images.notes))
    else:
        drawn = obtain(synthesis_request(config, source.class_names, source.templates))
        if synthesis.language_model:
            told = prompts_words(prompts_json(config, source.class_names, source.templates))
            source = source._replace(notes=(*source.notes, f"The generator was asked for {told}."))
        images, about = LabelledImages(drawn.images, drawn.labels, drawn.manifest["images_sha256"]), drawn.manifest
    images, notes = without_marked(images, source.class_names, config)
    source = source._replace(notes=(*source.notes, *notes))
    if real:
        images, about = joined(own, images), {**about, "real_per_class": real}
        note = f"The server's set holds {real} real training images of every class, which no client holds."
        source = source._replace(notes=(*source.notes, note))
    if sound:
        check_enough(images.labels, source.class_names, config)
    return source, images, about


def joined(first: LabelledImages, second: LabelledImages) -> LabelledImages:
    """The images of one, which are real, before those of the other, which are not."""
    parts, start = (first, second), len(first.labels)
    names = [getattr(part.images, "name", "image {}".format) for part in parts]

    def place(row: int) -> tuple[int, int]:
        return (0, row) if row < start else (1, row - start)

    def decode(row: int):
        which, inner = place(row)
        return parts[which].images[inner]

    def name(row: int) -> str:
        which, inner = place(row)
        return names[which](inner)

    def file(row: int) -> str:
        which, inner = place(row)
        return file_of(parts[which].images, inner)

    labels = np.concatenate([first.labels, second.labels])
    files = all(getattr(part.images, "files", False) for part in parts)
    images = Images(len(labels), decode, name, files, file=file)
    fingerprint = fingerprint_of(first.fingerprint, second.fingerprint)
    return LabelledImages(images, labels, fingerprint, real=np.arange(len(labels)) < start)


def bring(config: ConfigDict, class_names: tuple[str, ...]) -> LabelledImages:
    """At most synthesis.images_per_class images of each class, at random, out of class folders called as the classes
    are, or as the data set calls its own folders; folders of other classes are passed over, and the notes say so.

    Raises UsageError: the folder is not there, or lacks a class."""
    path, spelled = config.synthesis.path, suite.folder_names_of(config.data)
    fields = default().data
    fields.update({"path": path, "splits": ("train", "", "")})
    match = functools.partial(match_among, names=class_names, field=folder.FIELD, spelled=spelled)
    try:
        found = folder.load(fields, match, known=(*class_names, *spelled))
    except UsageError as error:
        if error.field in ("data.layout", "data.splits"):  # fields that do not hold for this folder
            found = f"{path} ({error.value})"
            raise UsageError(
                "synthesis.path", found, "a folder of class folders", "name the folder of these"
            ) from error
        field = error.field.replace(folder.FIELD, "synthesis.path")
        raise UsageError(field, error.value, error.allowed, error.mend) from error
    count, there = config.synthesis.images_per_class, len(found.train.labels)
    chosen = select(found.train, shot_rows(found.train.labels, count, config.seed))
    notes = [*found.notes]
    if len(chosen.labels) < there:
        most = f"at most {count} of each class (synthesis.images_per_class)"
        notes.append(f"{len(chosen.labels)} of {there} images are used, {most}.")
    return chosen._replace(notes=tuple(f"synthesis.path: {note}" for note in notes))


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
    source, images = take_apart(source, count, config.seed, "synthesis.images_per_class")
    note = f"The server's images are not generated: {count} real training images of every class, which no client holds."
    images, notes = without_marked(images, source.class_names, config)
    source = source._replace(notes=(*source.notes, note, *notes))
    return source, images, {"source": "held_out", "images_per_class": count, "fingerprint": images.fingerprint}


def take_apart(source: ImageSet, count: int, seed: int, field: str) -> tuple[ImageSet, LabelledImages | None]:
    """(the source without `count` training images of every class, these images; None for 0).

    Raises UsageError: `field` asks for as many as a class has."""
    if not count:
        return source, None
    labels = source.train.labels
    counts = np.bincount(labels, minlength=len(source.class_names))
    if counts.min() <= count:
        poorest = int(counts.argmin())
        class_name = source.class_names[poorest]
        allowed = f"fewer than {counts.min()}, what {class_name} has, so that it keeps an image to train on"
        mend = "lower it, or bring more training images" if counts.min() > 1 else "bring more training images"
        raise UsageError(field, count, allowed, mend)
    rows = shot_rows(labels, count, seed)
    others = np.setdiff1d(np.arange(len(labels)), rows)
    return source._replace(train=select(source.train, others)), select(source.train, rows)


def texts_of(data: ConfigDict) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(class names, templates) of a source, without its images where the names are known without them."""
    if is_described(data.name) and not data.split_file:
        known = suite.named(data.name)
        return tuple(data.class_names) or known.class_names, known.templates
    source = read_source(data)
    return source.class_names, source.templates


def synthesis_request(config: ConfigDict, class_names: tuple[str, ...], templates: tuple[str, ...]) -> Request:
    """What the server's generator is asked for; `templates` where the config names no prompts.

    Raises UsageError: as `prompts_json`."""
    synthesis = config.synthesis
    request = request_of(
        pipeline="pocket" if synthesis.source == "pocket" else synthesis.pipeline,
        class_names=class_names,
        templates=tuple(synthesis.prompts) or templates,
        images_per_class=synthesis.images_per_class,
        how=Drawing(**{name: synthesis[name] for name in Drawing._fields}),
        seed=config.seed,
    )
    prompts = prompts_json(config, class_names, templates)["prompts"]
    return request._replace(prompts=in_turn([prompts[name] for name in class_names], synthesis.images_per_class))
