"""Image files that the rows of a hub's table name, as those of class folders do that the package `datasets` reads."""

import contextlib
import os

import numpy as np


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
