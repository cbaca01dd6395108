"""A config's data fields to images, whatever the source."""

from cachefl_jax.data import folder, hub, idx, suite
from cachefl_jax.data.broken import check_images
from cachefl_jax.data.classes import check_source
from cachefl_jax.data.images import ImageSet, listing
from cachefl_jax.data.sampling import hold_out, splits_of, take_image_shots
from cachefl_jax.errors import UsageError


def digits(data) -> ImageSet:
    """The embedded handwriting; nothing of it is to be set."""
    from cachefl_jax.data.digits import load  # brings scikit-learn, which no other source must wait for

    return load()


SOURCES = {"digits": digits, "image_folder": folder.load, "hub": hub.load, "idx": idx.load}


def load_images(config) -> ImageSet:
    """The images that config.data names: all three splits (validation may be None), few-shot, none of them broken.

    Few-shot rows are chosen before broken images are looked for, so that only what is used is decoded.

    Raises:
        UsageError: the source is not to be had, or a split, a class or an image is not as it must be.
    """
    data = config.data
    source = read_source(data)
    field = "data.path" if data.path else "data.hub" if data.name == "hub" else "data.name"
    check_source(source, field)
    source = hold_out(source, data.validation_share, data.test_share)
    source = take_image_shots(source, data.shots, config.seed)
    splits = {what: check_images(split, what, data.broken) for what, split in splits_of(source).items()}
    source = source._replace(**splits)
    check_source(source, field)
    notes = [note for split in splits.values() for note in split.notes]
    return source._replace(notes=(*source.notes, *notes, *class_notes(source)))


def read_source(data) -> ImageSet:
    """What the source gives, before anything is held out or chosen."""
    if data.name in SOURCES:
        return SOURCES[data.name](data)
    if data.name in suite.names():
        return suite.load(data.name, data)
    raise UsageError("data.name", data.name, " | ".join((*SOURCES, *suite.names())), "choose one of these")


def class_notes(source: ImageSet) -> list[str]:
    """Classes of which a split other than training has no image."""
    notes = []
    for what, split in splits_of(source).items():
        present = set(split.labels.tolist())
        absent = [name for number, name in enumerate(source.class_names) if number not in present]
        if absent:
            notes.append(f"Classes without images in the {what} split ({len(absent)}): {listing(absent)}.")
    return notes
