"""Checkpoints of the server's state, by round. One small wrapper around Orbax, so that its API stands in one place."""

import contextlib
import logging
import pathlib
import re
from collections.abc import Iterator

import jax
from orbax.checkpoint import v1 as ocp

from cachefl_jax.errors import UsageError


@contextlib.contextmanager
def open_checkpoints(directory: pathlib.Path) -> Iterator[ocp.training.Checkpointer]:
    """The checkpoints of a run; leaves only after all writes have landed. Half-written ones are cleared away."""
    logging.getLogger("absl").setLevel(logging.WARNING)  # Orbax reports every step of every save
    with ocp.training.Checkpointer(directory.absolute(), cleanup_tmp_directories=True) as checkpointer:
        yield checkpointer


def rounds_saved(directory: pathlib.Path) -> list[int]:
    """The rounds that have a finished checkpoint, ascending. Reads folder names only: Orbax renames a finished
    checkpoint into place."""
    if not directory.is_dir():
        return []
    return sorted(int(entry.name) for entry in directory.iterdir() if re.fullmatch(r"\d+", entry.name))


def restore(directory: pathlib.Path, like, round_number: int):
    """The state saved after `round_number` rounds, with the structure, dtypes and placement of the arrays `like`.

    Raises:
        UsageError: there is no checkpoint of that round, or its arrays have other shapes than `like`.
    """
    saved = rounds_saved(directory)
    if round_number not in saved:
        allowed = ", ".join(map(str, saved)) or "none saved yet"
        raise UsageError("round", round_number, f"a round with a checkpoint ({allowed})", "choose one of them")
    with open_checkpoints(directory) as checkpointer:
        # Asked beforehand: a load that fails for its shapes tells of it in pages of text.
        theirs, ours = shapes(checkpointer.metadata(round_number).metadata), shapes(like)
        if theirs != ours:
            found = f"{directory / str(round_number)} with arrays {theirs}"
            mend = "keep the run's own classes, keys and features, or run again in a new folder"
            raise UsageError("checkpoint", found, f"arrays {ours}, as this config makes them", mend)
        return checkpointer.load(round_number, like)


def shapes(tree) -> list[tuple[int, ...]]:
    """The shapes of a pytree's leaves, sorted: a stored tree names its fields, but in another order."""
    return sorted(leaf.shape for leaf in jax.tree.leaves(tree))
