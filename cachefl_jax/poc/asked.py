"""What a proof of concept is asked for, checked before anything is read, and told before anything is trained."""

import os
import pathlib

from ml_collections import ConfigDict

from cachefl_jax.config import changed
from cachefl_jax.config.synthesis import DRAWN
from cachefl_jax.errors import UsageError


def accepted(config: ConfigDict) -> ConfigDict:
    """The config with sites that are left out as `data.left_out_sites`: they are neither trained nor tested on.

    Raises UsageError: the folder of the server's images is not there, holds no file, or is that of the sites."""
    if config.synthesis.source == "image_folder":
        check_synthetic(config.synthesis.path, config.data.path)
    out = (*config.data.left_out_sites, *config.partition.left_out)
    return changed(config, {"data.left_out_sites": tuple(dict.fromkeys(out)), "partition.left_out": ()})


def check_synthetic(path: str, sites: str) -> None:
    """Raises UsageError: as `accepted`."""
    field, folder = "--synthetic (synthesis.path)", pathlib.Path(path)
    allowed, mend = (
        "a folder of class folders with images",
        "correct it, or leave it out: real images are set apart then",
    )
    if not folder.is_dir():
        found = f"{path} ({'a file' if folder.exists() else 'not there'})"
        raise UsageError(field, found, allowed, mend)
    if sites and pathlib.Path(sites).exists() and folder.samefile(sites):
        raise UsageError(field, f"{path}, the folder of the sites too", "images that are none of the sites", mend)
    if not any(files for _, _, files in os.walk(folder)):
        raise UsageError(field, f"{path} (no file in it)", allowed, mend)


def first_words(config: ConfigDict) -> list[str]:
    """What to know before it starts: how the minutes are divided, and what has no effect."""
    seeds, minutes = config.study.seeds, config.poc.minutes
    told = [
        f"{minutes:g} minute{'s' * (minutes != 1)} (poc.minutes): reading, encoding and every row once by {seeds} "
        "seeds come first, however long they take. Half of what is left then is for tuning; the rest for fewer "
        "images, for sites left out in turn and for the run that is deployed."
    ]
    if config.synthesis.price_gpu_hour and config.synthesis.source not in DRAWN:
        told.append("synthesis.price_gpu_hour has no effect: no image is drawn here.")
    return told
