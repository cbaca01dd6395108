"""Checkpoints of the server's state, by round. One small wrapper around Orbax, so that its API stands in one place.

Orbax does not check the bytes that it reads, so the digests of a checkpoint's files lie beside it (``100.json`` beside
``100/``). One without digests, as older versions left it, counts as whole as long as it can be loaded.
"""

import contextlib
import logging
import os
import pathlib
import re
import shutil
from collections.abc import Iterator

import jax
from orbax.checkpoint import v1 as ocp

from cachefl_jax.errors import UsageError, of_the_system
from cachefl_jax.storage.checked_json import TEXT, Fields, check, read
from cachefl_jax.storage.files import file_digest, naming, write_json
from cachefl_jax.storage.leftovers import temporary_name

OVERHEAD = 2**18  # bytes of a checkpoint beside its arrays, and more
DAMAGED = ".damaged"  # ends the name of a checkpoint that was set aside


class DamagedCheckpoint(UsageError):
    """A checkpoint is not as it was written."""

    def __init__(self, directory: pathlib.Path, number: int, why: str):
        others = ", ".join(str(each) for each in rounds_saved(directory) if each != number) or "none other is there"
        mend = f"name another round ({others}), or repeat the run's command, which goes on from the one before"
        super().__init__("checkpoint", f"{directory / str(number)} ({why})", "a whole checkpoint", mend)


class Checkpoints:
    """The open checkpoints of a run."""

    def __init__(self, directory: pathlib.Path, checkpointer: ocp.training.Checkpointer):
        self.directory, self.checkpointer = directory, checkpointer

    def save(self, number: int, state) -> None:
        """Writes the state after `number` rounds, in place of what is there for that round; all processes together."""
        writes = jax.process_index() == 0
        if writes:
            digests_file(self.directory, number).unlink(missing_ok=True)
            size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
            make_sure_of_room(self.directory, size + OVERHEAD)
        self.checkpointer.save(number, filled(state), force=True, overwrite=True)
        if writes:
            write_json(digests_file(self.directory, number), digests(self.directory / str(number)))


def make_sure_of_room(directory: pathlib.Path, size: int) -> None:
    """Takes `size` bytes and gives them back, as Orbax's threads tell of a full disk in pages.

    Raises OSError: they are not to be had."""
    directory.mkdir(parents=True, exist_ok=True)
    path = temporary_name(directory / "room")
    try:
        with naming(directory), path.open("xb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def open_checkpoints(directory: pathlib.Path) -> Iterator[Checkpoints]:
    """The checkpoints of a run, for writing; leaves only after all writes have landed. Half-written ones are cleared
    away.

    Raises OSError: the file system refuses one; what was saved before is as it was."""
    try:
        with opened(directory, cleanup_tmp_directories=True) as checkpointer:
            yield Checkpoints(directory, checkpointer)
    except Exception as error:  # Orbax hands on whatever its threads met with, some of it as it is closed
        named = isinstance(error, UsageError) or (isinstance(error, OSError) and error.filename is not None)
        refused = None if named else of_the_system(error, directory)
        if refused is None:
            raise
        raise refused from error


def opened(directory: pathlib.Path, **options) -> ocp.training.Checkpointer:
    # Orbax reports every step of every save, warns of every folder that is none of its own, and tells of damage in
    # pages before it raises.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    return ocp.training.Checkpointer(directory.absolute(), **options)


def rounds_saved(directory: pathlib.Path) -> list[int]:
    """The rounds that have a finished checkpoint, ascending. Reads folder names only: Orbax renames a finished
    checkpoint into place."""
    if not directory.is_dir():
        return []
    return sorted(int(entry.name) for entry in directory.iterdir() if re.fullmatch(r"\d+", entry.name))


def restore(directory: pathlib.Path, like, number: int):
    """The state saved after `number` rounds, with the structure, dtypes and placement of the arrays `like`.

    Writes nothing: a run may be at work in the folder.

    Raises DamagedCheckpoint: its files are not as they were written, or cannot be read. UsageError: there is no
    checkpoint of that round, or its arrays have other shapes than `like`."""
    saved = rounds_saved(directory)
    if number not in saved:
        allowed = ", ".join(map(str, saved)) or "none saved yet"
        raise UsageError("round", number, f"a round with a checkpoint ({allowed})", "choose one of them")
    why = fault(directory, number)
    if why:
        raise DamagedCheckpoint(directory, number, why)
    try:
        return load(directory, like, number)
    except (UsageError, PermissionError, MemoryError):
        raise
    except Exception as error:  # on damaged files Orbax raises anything
        if digests_file(directory, number).is_file():  # the files are as they were written: it is not that
            raise
        raise DamagedCheckpoint(directory, number, f"it cannot be read: {type(error).__name__}") from error


def load(directory: pathlib.Path, like, number: int):
    """As `restore`, without a check of the files."""
    with opened(directory) as checkpointer:
        # Asked beforehand: a load that fails for its shapes tells of it in pages of text.
        theirs, ours = shapes(checkpointer.metadata(number).metadata), shapes(like)
        if not theirs:
            raise ValueError("no arrays")
        if theirs != ours:
            found = f"{directory / str(number)} with arrays {theirs}"
            mend = "keep the run's own classes, keys and features, or run again in a new folder"
            raise UsageError("checkpoint", found, f"arrays {ours}, as this config makes them", mend)
        loaded = checkpointer.load(number, filled(like))
        return like._replace(**loaded) if hasattr(like, "_replace") else loaded


def versions_saved(directory: pathlib.Path, number: int) -> int:
    """Of how many rounds the state saved after `number` rounds has the params (`PartStates.versions`); 0 where it has
    none, or cannot be read: `restore` says why."""
    if number not in rounds_saved(directory) or fault(directory, number):
        return 0
    with opened(directory) as checkpointer:
        parts = checkpointer.metadata(number).metadata.get("parts") or {}
    kept = jax.tree.leaves(parts.get("versions", ()))
    return kept[0].shape[0] if kept else 0


def filled(state):
    """A state's fields by name, without those that may be left out and hold nothing: a run that has no use for a field
    is stored as it was before there was one. Any other tree as it is."""
    if not hasattr(state, "_asdict"):
        return state
    return {
        name: value
        for name, value in state._asdict().items()
        if name not in state._field_defaults or jax.tree.leaves(value)
    }


def shapes(tree) -> list[tuple[int, ...]]:
    """The shapes of a pytree's leaves, sorted: a stored tree names its fields, but in another order."""
    return sorted(leaf.shape for leaf in jax.tree.leaves(tree))


def digests_file(directory: pathlib.Path, number: int) -> pathlib.Path:
    return directory / f"{number}.json"


def digests(checkpoint: pathlib.Path) -> dict[str, str]:
    """The sha256 of every file of a checkpoint, by its path in there."""
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file())
    return {path.relative_to(checkpoint).as_posix(): file_digest(path) for path in files}


def fault(directory: pathlib.Path, number: int) -> str:
    """What is wrong with a round's checkpoint; empty if its files are as they were written, or nobody knows how they
    were. Only files that were written count: what others put beside them does no harm."""
    checkpoint, file = directory / str(number), digests_file(directory, number)
    try:
        expected = read(file) if file.is_file() else {}
        check(expected, Fields(dict.fromkeys(expected, TEXT), {}), str(file))
    except (UsageError, TypeError):
        return f"{file.name} beside it cannot be read"
    if not checkpoint.is_dir() or not any(checkpoint.iterdir()):
        return "it is empty"
    for name, digest in expected.items():
        path = checkpoint / name
        if not path.is_file():
            return f"its file {name} is missing"
        if file_digest(path) != digest:
            return f"its file {name} has other bytes than were written"
    return ""


def set_aside(directory: pathlib.Path, number: int) -> pathlib.Path:
    """Renames a checkpoint so that it does not count any more; returns where it lies now."""
    place = directory / f"{number}{DAMAGED}"
    if place.is_dir():
        shutil.rmtree(place)
    os.replace(directory / str(number), place)
    digests_file(directory, number).unlink(missing_ok=True)
    return place
