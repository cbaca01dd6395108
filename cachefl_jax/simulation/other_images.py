"""Images to evaluate on that may be others than a run's own, and which of them the run trained on.

Axis letters: n rows, N classes, K keys a class, D features, C clients.
"""

import os

import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.data import FeatureBank, Split, everything
from cachefl_jax.data.file_bytes import shared_rows
from cachefl_jax.data.images import ImageSet, LabelledImages, select
from cachefl_jax.data.sampling import splits_of
from cachefl_jax.data.sources import choose_images, load_for_evaluation
from cachefl_jax.errors import UsageError, listing
from cachefl_jax.simulation.encoded import Checkpoint, class_weights, image_features, pixels_by_split
from cachefl_jax.simulation.keys import server_of
from cachefl_jax.simulation.prepare import Inputs, templates_of


def images_to_evaluate(
    config: ConfigDict,
    keys: np.ndarray,
    class_names: tuple[str, ...],
    site_names: list[str],
    own: ConfigDict,
    pilot: bool,
) -> Inputs:
    """As `prepare`, of images that are evaluated and not trained on: no more is encoded, and classes may lack images.

    Args:
        config: a run's, with the data group of the images.
        keys: the run's at round 0, [N, K, D].
        class_names: its classes, [N].
        site_names: of its clients [C], where these are sites that have names.
        own: the run's config as it was, which tells images that were brought from its own.
        pilot: whether sites held the training rows: nothing is known of them.

    Raises UsageError: the images or the checkpoint are not to be had, or the classes are others."""
    source = load_for_evaluation(config, class_names, brought=is_brought(config, own))
    check_classes(source.class_names, class_names)
    known = [] if pilot else trained_on_notes(source.test, config, own)
    source = source._replace(notes=(*source.notes, *known))
    clip, name = config.clip, config.data.name
    checkpoint = Checkpoint(clip.checkpoint, clip.dtype, clip.batch_size)
    templates = templates_of(config, source)
    weights = class_weights(checkpoint, class_names, templates, f"{name}, class names")
    test, validation = (
        split and Split(image_features(checkpoint, split, f"{name}, {role}"), split.labels)
        for role, split in (("test", source.test), ("validation", source.validation))
    )
    width = keys.shape[-1]
    train = Split(test.features[:1], test.labels[:1])  # nobody trains on it
    bank = FeatureBank(
        train=train,
        validation=validation,
        test=test,
        synthetic=Split(keys.reshape(-1, width), np.repeat(np.arange(len(keys)), keys.shape[1]).astype(np.int32)),
        text_features=weights.arrays["text_features"],
        class_names=class_names,
        logit_scale=weights.facts["logit_scale"],
        metadata={},
    )
    server = server_of(keys, bank, encoder=checkpoint.whole, templates=templates)
    pixels = pixels_by_split(checkpoint, splits_of(source._replace(train=select(source.test, np.arange(1)))), name)
    clients = (clients_by_name(source, split, site_names) for split in (source.test, source.validation))
    return Inputs(
        bank, everything(1), server, None, None, list(source.notes), {}, source.notes, pixels, source, *clients
    )


def clients_by_name(source: ImageSet, split: LabelledImages | None, names: list[str]) -> np.ndarray | None:
    """[n] the client that each image of a split came from, -1 for none; None where no image says so.

    Args:
        names: of the run's clients, [C]: other images may have other sites, or these in another order."""
    if split is None or split.groups is None:
        return None
    numbers = {name: client for client, name in enumerate(names)}
    found = np.array([numbers.get(name, -1) for name in source.site_names], np.int32)[split.groups]
    return found if (found >= 0).any() else None


def check_classes(class_names: tuple[str, ...], known: tuple[str, ...]) -> None:
    """Whether data are of the run's classes, in its order. Raises UsageError: they are of others."""
    if known != class_names:
        mend = "name data of the same classes in the same order"
        raise UsageError("data", f"the classes {listing(class_names)}", f"the run's own, {listing(known)}", mend)


def is_brought(config: ConfigDict, own: ConfigDict) -> bool:
    """Whether images to evaluate on lie elsewhere than those of the run, whose config is `own`."""
    fields = ("name", "hub", "hub_config", "split_file", "splits")
    places = [os.path.realpath(os.path.expanduser(each.data.path)) for each in (config, own)]
    return places[0] != places[1] or any(config.data[field] != own.data[field] for field in fields)


def trained_on_notes(test: LabelledImages, config: ConfigDict, own: ConfigDict) -> list[str]:
    """How many images to evaluate on are in the run's training split, by their bytes.

    Args:
        test: the images.
        config: as they are evaluated.
        own: the run's, whose test split is not looked through."""
    if config.data == own.data:
        return []
    if not own.data.path and own.data.name != "digits":  # nothing is downloaded to find out
        return ["Whether the run trained on some of these images was not looked up, as its own came from a hub."]
    set_apart = own.synthesis.images_per_class if own.synthesis.source == "held_out" else own.synthesis.real_images
    try:
        shared = len(shared_rows(test, choose_images(own, set_apart).train))
    except UsageError as error:
        return [f"Whether the run trained on some of these images is not known: its own are not to be had ({error})."]
    if not shared:
        return []
    told = f"{shared} of {len(test.labels)} test images are in the run's training split, byte for byte"
    return [f"{told}: accuracy on them tells nothing of new images."]
