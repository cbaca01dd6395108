"""Image files to the features that a model takes, by the very encoder that it was tuned with.

Axis letters: n images, D features.
"""

import collections
import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cachefl_jax.clip import encode_images, find_checkpoint, image_part, load_encoder, weights_digest
from cachefl_jax.data.broken import decode_all
from cachefl_jax.data.class_names import as_read
from cachefl_jax.data.formats import is_image
from cachefl_jax.data.images import Images, LabelledImages, read_image
from cachefl_jax.data.tree import kinds_of, read_tree
from cachefl_jax.deploy.model import Model
from cachefl_jax.errors import UsageError, listing

FIELD = "paths"


def find_images(paths: Sequence[str]) -> list[str]:
    """The image files among `paths` and in the folders among them, whatever lies in one another.

    Raises UsageError: a path is not there, a file is no image, or a folder holds none."""
    found = []
    for path in paths:
        if os.path.isdir(path):
            found += images_below(path)
        elif not os.path.isfile(path) or not is_image(path):
            what = "no image, by its suffix" if os.path.isfile(path) else "no such file"
            raise UsageError(FIELD, f"{path} ({what})", "image files, and folders of them", "correct it")
        else:
            found.append(path)
    return found


def images_below(root: str) -> list[str]:
    """The image files in a folder and below."""
    folders = list(read_tree(pathlib.Path(root)).below())
    found = [os.path.join(root, file.path) for folder in folders for file in folder.files]
    if not found:
        others = [name for folder in folders for name in folder.others]
        inside = kinds_of(others) if others else "empty"
        raise UsageError(FIELD, f"{root} (no images: {inside})", "a folder with images", "name another")
    return found


def images_of(files: Sequence[str]) -> Images:
    """The files as images that are decoded when asked for."""
    return Images(len(files), lambda row: read_image(files[row]), lambda row: files[row], files=True)


def broken_images(files: Sequence[str]) -> dict[int, str]:
    """What is wrong with which file; each is decoded, whole."""
    labels = np.zeros(len(files), np.int32)
    return decode_all(LabelledImages(images_of(files), labels, ""), range(len(files)), "images")


def checked_directory(model: Model, checkpoint: str | None) -> pathlib.Path:
    """The folder of the checkpoint that the model was tuned with, found by its name or at `checkpoint`.

    Raises UsageError: the model is of features alone, or the checkpoint is not there or has other weights."""
    name, digest = checkpoint or model.told["checkpoint"], model.told["weights_sha256"]
    if not digest or not name:
        value = f"images for {model.path} (tuned on a feature bank, whose encoder is not known)"
        raise UsageError(FIELD, value, "features [n, D] in a .npy or .npz", "encode them as the bank was")
    try:
        directory = find_checkpoint(name)
        found = weights_digest(directory)
    except UsageError as error:
        raise UsageError("--checkpoint", error.value, error.allowed, f"name where {name} lies now") from error
    if found != digest:
        value = f"{name} (weights and settings {found[:12]})"
        raise UsageError("--checkpoint", value, f"{digest[:12]}, which the model was tuned with", "name that one")
    return directory


def features_of(model: Model, files: Sequence[str], checkpoint: str | None = None) -> np.ndarray:
    """Features [n, D] float32 of image files, by the encoder that the model was tuned with.

    Raises UsageError: as `checked_directory`, or an image has no feature."""
    directory = checked_directory(model, checkpoint)
    encoder = image_part(load_encoder(str(directory), model.told["precision"] or "float32"))
    return encode_images(encoder._replace(preparation=model.preparation), images_of(files))


class Labelled(NamedTuple):
    """Classes by folders."""

    labels: np.ndarray  # [n] of each file; -1: of none
    folders: int  # how many are named after a class
    others: dict[str, int]  # images in each folder that is named after none, and lies in none that is


def labels_of(model: Model, files: Sequence[str]) -> Labelled:
    """The class that the nearest folder above each file is named after, by the class's name or by what the run's data
    set calls its folder, in any spelling.

    Raises UsageError: no folder has a class's name."""
    known = {as_read(name): number for number, name in enumerate(model.folder_names)}
    known |= {as_read(name): number for number, name in enumerate(model.class_names)}
    labels, folders, others = [], set(), collections.Counter()
    for file in files:
        above = next((each for each in pathlib.Path(file).parents if as_read(each.name) in known), None)
        labels.append(-1 if above is None else known[as_read(above.name)])
        if above is None:
            others[os.path.dirname(file) or "."] += 1
        else:
            folders.add(above)
    if not folders:
        allowed = f"images in folders that are named after the model's classes, {listing(model.class_names)}"
        raise UsageError("--evaluate", f"no such folder: {listing(others)}", allowed, "rename them, or leave it out")
    return Labelled(np.array(labels, np.int32), len(folders), dict(others))
