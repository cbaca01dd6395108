"""Files that say which image belongs to which split and class.

Two forms are read, both JSON: {"train": [[path, class name], ...], "val": ..., "test": ...}, and the rows
[path, label, class name] of CoOp's split_zhou_*.json (Zhou et al., arXiv 2109.01134), which most CLIP papers share.

Such a file may come from anywhere, so its paths must stay below data.path: they start there, whatever separator they
are written with. A link that lies below data.path is the user's own and is followed.
"""

import collections
import json
import pathlib
import posixpath
from collections.abc import Callable, Sequence

from cachefl_jax.data.class_names import alike_note, on_disk
from cachefl_jax.data.classes import Classes, in_order
from cachefl_jax.data.splits import ROLES, find_splits
from cachefl_jax.errors import UsageError, listing

FIELD = "data.split_file"
ALLOWED = '{"train": [[path, class], ...], "val": ..., "test": ...}, or rows of [path, label, class]'


def read_split_file(
    path: str, root: pathlib.Path, name: Callable[[Sequence[str]], Classes]
) -> tuple[dict[str, list[tuple[str, int]]], Classes, tuple[str, ...]]:
    """({split: rows (path, label)}, the classes, notes); a split that the file lacks has no rows.

    Args:
        path: the file, by itself or from `root`.
        name: numbers the classes by their names, which come in the order of their labels, or else sorted.

    Raises UsageError: the file is not to be had, or its rows contradict each other; the first such row is shown."""
    path = on_disk(path)
    file = next((each for each in (pathlib.Path(path).expanduser(), root / path) if each.is_file()), None)
    if file is None:
        raise UsageError(FIELD, f"{path} (not there)", "an existing JSON file", "correct the path")
    try:
        content = json.loads(file.read_bytes().decode("utf-8-sig"))  # Windows' editors write a mark in front
    except (OSError, ValueError, RecursionError) as error:  # the last: brackets without end
        raise UsageError(FIELD, f"{file} ({type(error).__name__}: {error})", ALLOWED, "write it again") from error
    if not isinstance(content, dict):
        raise refused(file, f"a {type(content).__name__}")
    keys = find_splits(ROLES, list(content), str(file))
    rows = {role: content[key] if key else [] for role, key in keys.items()}
    for part in rows.values():
        check_rows(file, part)
    rows = below_root(file, rows, root)
    every = [row for part in rows.values() for row in part]
    if not rows["train"]:
        raise refused(file, "no training rows")
    labelled = len(rows["train"][0]) == 3
    if any((len(row) == 3) != labelled for row in every):
        raise refused(file, "rows of both forms")
    classes = name(labelled_names(file, every) if labelled else in_order({row[1] for row in rows["train"]}))
    unknown = sorted({row[-1] for row in every} - classes.numbers.keys())
    if unknown:
        found = f"classes that training lacks: {listing(unknown)}{alike_note(unknown, classes.numbers)}"
        raise refused(file, found)
    numbered = {role: [(row[0], classes.numbers[row[-1]]) for row in part] for role, part in rows.items()}
    return numbered, classes, overlap_notes(rows)


def check_rows(file: pathlib.Path, rows: object) -> None:
    """Refuses what is no list of rows of one of the two forms."""
    if not isinstance(rows, list):
        raise refused(file, f"a {type(rows).__name__} for a split")
    for row in rows:
        texts = isinstance(row, list) and len(row) in (2, 3) and isinstance(row[0], str) and isinstance(row[-1], str)
        if not texts or (len(row) == 3 and type(row[1]) is not int):
            raise refused(file, f"the row {json.dumps(row)[:200]}")


def below_root(file: pathlib.Path, rows: dict[str, list], root: pathlib.Path) -> dict[str, list]:
    """The rows with paths in one form: with / between folders, and without a way back up.

    Raises UsageError: a path is absolute or leads out of data.path; the first few are named."""
    clean = {role: [[one_form(row[0], root), *row[1:]] for row in part] for role, part in rows.items()}
    pairs = [(row[0], old[0]) for role, part in clean.items() for row, old in zip(part, rows[role], strict=True)]
    leaving = [old for path, old in pairs if path == ".." or path.startswith(("/", "../"))]
    if leaving:
        found = f"{file} ({len(leaving)} paths that are absolute or leave data.path: {listing(leaving)})"
        raise UsageError(FIELD, found, "paths from data.path down", "write them so, or name a folder above all images")
    return clean


def one_form(path: str, root: pathlib.Path) -> str:
    """A listed path, normalised; with backslashes as separators unless a file is really called so."""
    if "\\" in path and not is_there(root, path):
        path = path.replace("\\", "/")
        path = f"/{path}" if path[1:2] == ":" else path  # C:/ is absolute too
    return posixpath.normpath(path)


def is_there(root: pathlib.Path, path: str) -> bool:
    try:
        return (root / on_disk(path)).exists()
    except (OSError, ValueError):  # a name that no file can have
        return False


def labelled_names(file: pathlib.Path, rows: list) -> list[str]:
    """The class names of rows [path, label, class name] in the order of their labels."""
    pairs = sorted({(row[1], row[2]) for row in rows})
    names = [text for _, text in pairs]
    if [number for number, _ in pairs] != list(range(len(pairs))) or len(set(names)) != len(names):
        raise refused(file, f"labels that are not one a class, from 0: {listing(pairs)}")
    return names


def overlap_notes(rows: dict[str, list]) -> tuple[str, ...]:
    """Files that a split has twice, or that are in training and in another split: the file's maker may not know."""
    train, notes = {row[0] for row in rows["train"]}, []
    for role, part in rows.items():
        counts = collections.Counter(row[0] for row in part)
        repeated = sorted(path for path, count in counts.items() if count > 1)
        if repeated:
            notes.append(f"Files listed more than once in the {role} split ({len(repeated)}): {listing(repeated)}.")
    for role in ROLES[1:]:
        shared = sorted(train & {row[0] for row in rows[role]})
        if shared:
            notes.append(f"Files both in training and in the {role} split ({len(shared)}): {listing(shared)}.")
    return tuple(notes)


def refused(file: pathlib.Path, found: str) -> UsageError:
    return UsageError(FIELD, f"{file} ({found})", ALLOWED, "correct the file")
