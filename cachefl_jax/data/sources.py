"""A config's data fields to images, whatever the source."""

import contextlib
import functools
import os
import pathlib

from cachefl_jax.config.data import IMAGE_SOURCES, is_described
from cachefl_jax.data import folder, hub, suite
from cachefl_jax.data.broken import check_images
from cachefl_jax.data.classes import check_source, match_some
from cachefl_jax.data.file_bytes import COPIES, heed_bytes, shared_count
from cachefl_jax.data.formats import limit_pixels
from cachefl_jax.data.holding_out import hold_out
from cachefl_jax.data.images import ImageSet, LabelledImages
from cachefl_jax.data.sampling import splits_of, take_image_shots
from cachefl_jax.data.sites import without_sites
from cachefl_jax.data.splits import ROLES
from cachefl_jax.errors import UsageError, listing
from cachefl_jax.named import find


def digits(data) -> ImageSet:
    """The embedded handwriting; nothing of it is to be set."""
    from cachefl_jax.data.digits import load  # brings scikit-learn, which no other source must wait for

    return load()


def load_images(config) -> ImageSet:
    """The images that config.data names: all three splits (validation may be None), few-shot, none of them broken.

    Raises UsageError: the source is not to be had, or a split, a class or an image is not as it must be."""
    return without_broken(choose_images(config), config)[0]


def choose_images(config, more: int = 0) -> ImageSet:
    """As `load_images`, before broken images are looked for, so that only what is used is decoded.

    `more`: training images of each class beyond data.shots."""
    data = config.data
    limit_pixels(data.max_pixels)
    source = read_source(data, hints=folder_names(config.synthesis))
    source = without_sites(source, data.left_out_sites)
    check_source(source, field_of(data))
    source = hold_out(source, data)
    return take_image_shots(source, data.shots, config.seed, more)


def without_broken(source: ImageSet, config, **beside: LabelledImages) -> tuple[ImageSet, dict[str, LabelledImages]]:
    """The source without images that cannot be decoded, and so are the images that come from `beside` it, by name.

    Raises UsageError: images are broken, and data.broken is "stop" or nothing is left of a class; all splits are
    told."""
    names = splits_of(source)
    every = {what: heed_bytes(split, what) for what, split in (names | beside).items()}
    sound = check_images(every, config.data.broken)
    splits = {what: sound[what] for what in names}
    source = source._replace(**splits)
    check_source(source, field_of(config.data))
    notes = [note for split in splits.values() for note in split.notes] + copies_of_training(source, config.data)
    source = source._replace(notes=(*source.notes, *notes, *class_notes(source)))
    return source, {what: sound[what] for what in beside}


def copies_of_training(source: ImageSet, data) -> list[str]:
    """How many images of the other splits are training images too; near-duplicates that are held out together are told
    with the rest of them."""
    if data.duplicates == "together":
        return []
    notes = []
    for what, split in splits_of(source).items():
        if what != "train" and (shared := shared_count(split, source.train)):
            told = f"{shared} of {len(split.labels)} {COPIES.format(what)}, byte for byte: {what} accuracy is measured"
            notes.append(f"{told} on them too; --config.data.duplicates=together holds copies out together.")
    return notes


def load_for_evaluation(config, class_names: tuple[str, ...], brought: bool = False) -> ImageSet:
    """As `load_images`, for classes that are known: a site need not have images of them all.

    Training images are not decoded: those that are no one's to evaluate on may be broken.

    Args:
        config: of a run, with the data group of the images.
        class_names: the run's, in its order.
        brought: whether the images are others than the run's: then nothing is held out of a source without splits, all
            of which is tested on.

    Raises UsageError: as `load_images`; or the images are of other classes."""
    data = config.data.copy_and_resolve_references()
    limit_pixels(data.max_pixels)
    source = read_with_sites(data, class_names)
    if brought and source.test is None:
        count = len(source.train.labels)
        note = f"All {count} images are tested on: they were brought to evaluate on, without a test split of their own."
        source = source._replace(test=source.train, notes=(*source.notes, note))
    else:
        source = take_image_shots(hold_out(source, data), data.shots, config.seed)
    evaluated = {what: split for what, split in splits_of(source).items() if what != "train"}
    for what, split in list(evaluated.items()):
        if not len(split.labels):
            if what == "test":
                raise UsageError(field_of(data), "no images in the test split", "one or more", "bring more images")
            del evaluated[what]  # of a few images there may be none to spare
    evaluated = {what: heed_bytes(split, what) for what, split in evaluated.items()}
    sound = check_images(evaluated, data.broken)
    source = source._replace(**{"validation": None} | sound)
    notes = [note for split in sound.values() for note in split.notes]
    return source._replace(notes=(*source.notes, *notes, *class_notes(source, tuple(sound))))


def read_with_sites(data, class_names: tuple[str, ...]) -> ImageSet:
    """What the source gives of these classes, with its sites where it tells any: images to evaluate on need none.

    `data`: a copy of the data group, of which fields about sites are reset where there are none."""
    if data.group_column:
        with contextlib.suppress(UsageError):  # what is wrong besides is told below
            return without_sites(read_source(data, class_names), data.left_out_sites)
    data.group_column, data.held_out_of = "", "class"
    return read_source(data, class_names)


def field_of(data) -> str:
    """The field that named the source."""
    return "data.path" if data.path else "data.hub" if data.name == "hub" else "data.name"


def folder_names(synthesis) -> tuple[str, ...]:
    """What the folders of brought synthetic images are called: of classes, and of no sites."""
    if synthesis.source != "image_folder":
        return ()
    root = pathlib.Path(synthesis.path).expanduser()
    return tuple(sorted({name for _, names, _ in os.walk(root) for name in names}))


def read_source(data, class_names: tuple[str, ...] = (), hints: tuple[str, ...] = ()) -> ImageSet:
    """What the source gives, before anything is held out or chosen; of `class_names`, where these are known.

    `hints`: names that classes may have, and sites have not: they tell folders of classes from those of sites."""
    if is_described(data.name):
        return suite.load(data.name, data, class_names=class_names)
    if class_names and data.name == "image_folder":
        name = functools.partial(match_some, names=class_names, given=tuple(data.class_names), field=folder.FIELD)
        return folder.load(data, name, known=class_names)
    if class_names and data.name == "hub":
        name = functools.partial(match_some, names=class_names, given=tuple(data.class_names), field=hub.FIELD)
        return hub.load(data, lambda found, texts: name(found))
    if hints and data.name == "image_folder":
        return folder.load(data, known=hints)
    return find("data.name", data.name, IMAGE_SOURCES)(data)


def class_notes(source: ImageSet, names: tuple[str, ...] = ROLES) -> list[str]:
    """Classes of which one of these splits has no image."""
    notes = []
    for what, split in splits_of(source).items():
        if what not in names:
            continue
        present = set(split.labels.tolist())
        absent = [name for number, name in enumerate(source.class_names) if number not in present]
        if absent:
            notes.append(f"Classes without images in the {what} split ({len(absent)}): {listing(absent)}.")
    return notes
