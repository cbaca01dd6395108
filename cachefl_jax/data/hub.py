"""Data sets of the Hugging Face hub, or in its formats on disk: parquet or image folders, and what `save_to_disk` left.

Axis letter: n rows.
"""

import contextlib
import io
import logging
import os
import pathlib
import sys
from collections.abc import Callable

import numpy as np
from PIL import UnidentifiedImageError

from cachefl_jax.data.classes import Classes, in_order, name_classes
from cachefl_jax.data.images import (
    TEMPLATES,
    Images,
    ImageSet,
    LabelledImages,
    fingerprint_of,
    read_image,
    select,
)
from cachefl_jax.data.sites import number_sites
from cachefl_jax.data.splits import ROLES, find_splits
from cachefl_jax.errors import UsageError, listing

FIELD = "data.hub"


def load(data, name: Callable | None = None, templates: tuple[str, ...] = TEMPLATES) -> ImageSet:
    """The data set data.hub; validation and test are None where it has none.

    Rows stay in the Arrow files, images encoded, until they are asked for. Labels are class labels (their names in
    their order), whole numbers (data.class_names says what they mean) or texts (sorted).

    Args:
        data: the config's data group (hub, hub_config, splits, image_column, label_column, group_column, class_names).
        name: (the classes' names in order, whether labels are texts) -> classes; `name_classes` if not given.

    Raises UsageError: the package `datasets` is missing, or the data set, a split or a column is."""
    name = name or (lambda found, texts: name_classes(found, tuple(data.class_names)))
    there = open_all(data.hub, data.hub_config)
    splits = find_splits(data.splits, list(there), data.hub)
    tables = {role: there[split] for role, split in splits.items() if split}
    for role, table in tables.items():
        check_columns(table, splits[role], data, role == "train")
    values = {role: column_values(table, "label_column", data.label_column) for role, table in tables.items()}
    names = label_names(tables["train"].features[data.label_column], values["train"], data)
    classes = name(names, np.issubdtype(values["train"].dtype, np.str_))
    parts = dict.fromkeys(ROLES)
    for role, table in tables.items():
        labels = numbers(splits[role], values[role], names, classes, data.label_column)
        parts[role] = labelled(table, splits[role], labels, data)
    parts, site_names = number_sites(parts, sites_of(tables, data.group_column))
    parts = {role: split and kept(split) for role, split in parts.items()}
    return ImageSet(**parts, class_names=classes.names, templates=templates, site_names=site_names)


def sites_of(tables: dict, column: str) -> dict[str, list]:
    """The site [n] of every row, by role; without splits other than training where not every row tells it."""
    sites = {}
    for role, table in tables.items() if column else ():
        if role == "train":
            sites[role] = list(column_values(table, "group_column", column))
        elif column in table.features:
            with contextlib.suppress(UsageError):
                sites[role] = list(column_values(table, "group_column", column))
    return sites


def kept(split: LabelledImages) -> LabelledImages:
    """The split without the rows of classes that are left out."""
    return split if split.labels.min(initial=0) >= 0 else select(split, np.flatnonzero(split.labels >= 0))


def open_all(hub: str, configuration: str) -> dict:
    """Every split of a data set by name, from the hub or from a local folder."""
    allowed = "OWNER/NAME of a public data set, or a folder in one of its formats"
    if not hub:
        raise UsageError(FIELD, "nothing", allowed, "--config.data.hub=OWNER/NAME")
    try:
        import datasets
    except ImportError as error:
        raise UsageError(FIELD, hub, "with the package datasets installed", "pip install datasets") from error
    for name in ("datasets", "huggingface_hub"):  # what is wrong is said below, once
        logging.getLogger(name).setLevel(logging.CRITICAL)
    datasets.config.HF_DATASETS_TRUST_REMOTE_CODE = False  # versions that run a data set's own code ask otherwise
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    folder = pathlib.Path(hub).expanduser()
    saved = any((folder / index).is_file() for index in ("dataset_dict.json", "state.json"))
    try:
        if saved:
            found = datasets.load_from_disk(str(folder))
        else:
            found = datasets.load_dataset(str(folder) if folder.is_dir() else hub, configuration or None)
    except Exception as error:  # of no common type: not found, gated, no network, several configurations, broken files
        reason = f"{hub} ({type(error).__name__}: {error.__cause__ or error})"
        mend = "correct the name, give data.hub_config if it has several, or save it to disk where there is a network"
        raise UsageError(FIELD, reason, allowed, mend) from error
    return found if isinstance(found, dict) else {str(found.split or "train"): found}


def check_columns(table, split: str, data, grouped: bool) -> None:
    for field in ("image_column", "label_column", *(["group_column"] if grouped else [])):
        if data[field] not in ("", *table.column_names):
            allowed = f"the columns of the split {split}: {', '.join(table.column_names)}"
            raise UsageError(f"data.{field}", data[field], allowed, "name one of these")


def column_values(table, field: str, column: str) -> np.ndarray:
    """A column's [n] whole numbers or texts."""
    values = table.select_columns([column]).with_format("arrow")[:].column(column)
    array = values.to_numpy() if not values.null_count else np.array([None])
    if array.dtype == object and all(isinstance(value, str) for value in array):
        array = array.astype(str)
    if not (np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.str_)):
        kind = f"{column} ({values.type}, {values.null_count} empty)"
        raise UsageError(f"data.{field}", kind, "a column of whole numbers or texts, none empty", "name another")
    return array


def label_names(feature, values: np.ndarray, data) -> list[str]:
    """What the data set calls its classes: in the order of their numbers, or sorted where labels are texts."""
    if np.issubdtype(values.dtype, np.str_):
        return in_order(set(values.tolist()))
    names = getattr(feature, "names", None)
    if names is None and not data.class_names:
        allowed = "labels with names, or data.class_names"
        raise UsageError("data.label_column", f"{data.label_column} (numbers only)", allowed, "name the classes there")
    return list(names if names is not None else data.class_names)


def numbers(split: str, values: np.ndarray, names: list[str], classes: Classes, column: str) -> np.ndarray:
    """Labels [n] int32 of one split's values; `column` is what they are from."""
    if np.issubdtype(values.dtype, np.str_):
        unknown = sorted(set(values.tolist()) - classes.numbers.keys())
        if unknown:
            found = f"classes of {split} that training lacks: {listing(unknown)}"
            raise UsageError("data.label_column", found, f"the {len(names)} classes of training", "name other splits")
        kinds, which = np.unique(values, return_inverse=True)
        return np.array([classes.numbers[kind] for kind in kinds.tolist()], np.int32)[which]
    low, high = (int(values.min()), int(values.max())) if len(values) else (0, 0)
    if low < 0 or high >= len(names):
        found = f"labels from {low} to {high} in {split}"
        mend = "name another split: this one keeps its labels to itself" if low < 0 else "name all classes"
        if (low, high) == (1, len(names)):
            found += ", which are counted from 1"
            shift = f"data.map(lambda row: {{{column!r}: row[{column!r}] - 1}}).save_to_disk(DIR)"
            mend = f"take 1 off by the package datasets, {shift}, then --config.data.hub=DIR"
        raise UsageError("data.label_column", found, f"0 to {len(names) - 1}, one per class", mend)
    return np.array([classes.numbers[name] for name in names], np.int32)[values]


def labelled(table, split: str, labels: np.ndarray, data) -> LabelledImages:
    """One split; the images are decoded here, not by the package, so that all sources treat them alike."""
    import datasets

    feature = table.features[data.image_column]
    if isinstance(feature, datasets.Image):
        table = table.cast_column(data.image_column, datasets.Image(decode=False))
    elif getattr(feature, "dtype", None) not in ("binary", "large_binary"):
        allowed = "a column of images or of image files' bytes"
        raise UsageError("data.image_column", f"{data.image_column} ({feature})", allowed, "name another")
    encoded = table.select_columns([data.image_column])

    def value_of(row: int) -> dict:
        value = encoded[row][data.image_column]
        return value if isinstance(value, dict) else {"bytes": value}

    def decode(row: int):
        value = value_of(row)
        if value["bytes"] is not None:
            return read_image(io.BytesIO(value["bytes"]))
        if value.get("path") is None:
            raise UnidentifiedImageError("the row is empty")
        check_place(value["path"], data.hub)
        return read_image(value["path"])

    fingerprint = fingerprint_of(table._fingerprint, str(table.version), data.image_column, labels)
    files = files_of(encoded, data)

    def bytes_of(row: int) -> bytes:
        if not files[row]:
            return value_of(row)["bytes"] or b""
        try:
            return pathlib.Path(files[row]).read_bytes()
        except OSError:  # decoding tells
            return b""

    images = Images(
        len(labels),
        decode,
        lambda row: f"row {row} of the {split} split of {data.hub}",
        encoded=bytes_of,
        file=files.__getitem__ if any(files) else None,
    )
    return LabelledImages(images, labels, fingerprint)


def check_place(path: str, hub: str) -> None:
    """Refuses an image file that a row names outside of the data set and of the package's own folders: who made the
    data set may know the names of the user's files.

    Raises ValueError: it lies elsewhere."""
    import datasets
    from huggingface_hub import constants

    own = (datasets.config.HF_DATASETS_CACHE, datasets.config.DOWNLOADED_DATASETS_PATH, constants.HF_HUB_CACHE)
    places = [os.path.abspath(each) for each in (*map(str, own), os.path.expanduser(hub))]
    if not any(os.path.commonpath([os.path.abspath(path), place]) == place for place in places):
        raise ValueError(f"the row names {path}, which lies outside of data.hub")


def files_of(table, data) -> list[str]:
    """For each row the file that its image lies in, where that may be read; "" for an image in the table itself."""
    import pyarrow as pa  # comes with the package datasets
    import pyarrow.compute as pc

    column = table.with_format("arrow")[:].column(data.image_column)
    files = [""] * len(column)
    if not pa.types.is_struct(column.type) or not {"bytes", "path"} <= {field.name for field in column.type}:
        return files
    contents, paths = (pc.struct_field(column, name) for name in ("bytes", "path"))
    for row in np.flatnonzero(contents.is_null().to_numpy()).tolist():
        path = paths[row].as_py()
        with contextlib.suppress(ValueError):  # decoding tells
            check_place(path or "", data.hub)
            files[row] = path or ""
    return files
