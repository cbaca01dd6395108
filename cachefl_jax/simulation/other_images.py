"""Images to evaluate on that are others than a run's own, and which of them the run trained on."""

import os

from ml_collections import ConfigDict

from cachefl_jax.data.file_bytes import shared_rows
from cachefl_jax.data.images import LabelledImages
from cachefl_jax.data.sources import choose_images
from cachefl_jax.errors import UsageError


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
