"""A site's own rows: class folders or a feature bank, in the numbers of the server's classes.

Axis letters: n rows, D features.
"""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from cachefl_jax.data import Split
from cachefl_jax.data.bank_file import check_shapes, read_labels, read_matrix
from cachefl_jax.errors import UsageError
from cachefl_jax.storage.archive import Archive

FIELD = "--data"


class SiteRows(NamedTuple):
    """A site's rows, and what was left out of them."""

    split: Split
    notes: tuple[str, ...] = ()


def read_site(
    config: ConfigDict, data: str, class_names: tuple[str, ...], weights: str, folders: Sequence[str] = ()
) -> SiteRows:
    """A site's rows, all to train on; a site may lack classes.

    Args:
        config: the site's, which names the encoder.
        data: a folder of class folders, or an .npz with train_features [n, D] and train_labels [n].
        class_names: the server's, in its order.
        weights: the digest of the server's encoder; "": the server's features came from a bank.
        folders: what the server's data set calls the folders of its classes, beside their names.

    Raises UsageError: the data cannot be read, are of other classes, or were encoded by other weights."""
    if data.endswith(".npz"):
        return SiteRows(read_bank(pathlib.Path(data), len(class_names)))
    from cachefl_jax.simulation.encoded import Checkpoint, image_features

    checkpoint = Checkpoint(config.clip.checkpoint, config.clip.dtype, config.clip.batch_size)
    if checkpoint.weights != weights:
        value = f"{config.clip.checkpoint} (weights {checkpoint.weights[:12]})"
        allowed = f"the server's encoder (weights {weights[:12]})" if weights else "an .npz, as the server has features"
        raise UsageError("clip.checkpoint", value, allowed, "give the site the server's encoder")
    images = read_folder(config, data, class_names, folders)
    return SiteRows(Split(image_features(checkpoint, images, "images of the site"), images.labels), images.notes)


def read_bank(path: pathlib.Path, classes: int) -> Split:
    """The training rows of a bank. Raises UsageError: it cannot be read, or has labels past the last class."""
    with Archive(FIELD, path) as archive:
        check_shapes(archive, ["train_features"])
        labels = read_labels(archive, "train")
        if labels.min() < 0 or labels.max() >= classes:
            allowed = f"0 to {classes - 1}, the server's classes"
            raise UsageError(f"{FIELD}: {path}: train_labels", f"{labels.min()} to {labels.max()}", allowed, "renumber")
        return Split(read_matrix(archive, "train_features"), labels.astype(np.int32))


def read_folder(config: ConfigDict, data: str, class_names: tuple[str, ...], folders: Sequence[str] = ()):
    """The images of class folders, class by class; notes tell which files were passed over.

    Raises UsageError: a folder is no class of the server's."""
    import functools

    from cachefl_jax.data import folder
    from cachefl_jax.data.broken import check_images
    from cachefl_jax.data.classes import match_some
    from cachefl_jax.data.file_bytes import heed_bytes
    from cachefl_jax.data.formats import limit_pixels

    asked = config.data.copy_and_resolve_references()
    asked.update(name="image_folder", path=data, layout="class", group_column="", split_file="", class_names=())
    limit_pixels(asked.max_pixels)
    name = functools.partial(match_some, names=class_names, given=(), field=FIELD, spelled=folders)
    found = folder.load(asked, name, known=(*class_names, *folders))
    images = check_images({"site": heed_bytes(found.train, "site")}, asked.broken)["site"]
    return images._replace(notes=(*found.notes, *images.notes))
