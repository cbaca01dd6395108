"""A checkpoint's name by what it holds: the sha256 of its weights, settings and vocabulary."""

import pathlib

from cachefl_jax.clip.checkpoint import counted_files
from cachefl_jax.storage.digests import files_digest


def weights_digest(directory: pathlib.Path, root: pathlib.Path | None = None) -> str:
    """The sha256 of the checkpoint's files that count; neither its place nor other files beside them change it.

    `root`: the folder whose ``digests/`` remembers; $CACHEFL_HOME or ~/.cache/cachefl_jax if not given.

    Raises UsageError: there are no weights, shards of them are missing, or a file cannot be read."""
    return files_digest(directory, counted_files(directory), "clip.checkpoint", root)
