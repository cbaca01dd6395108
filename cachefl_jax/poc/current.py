"""The model that a firm has now, by its predictions on the same test images."""

import collections
import csv
import os
import pathlib
from collections.abc import Mapping

import numpy as np

from cachefl_jax.data.classes import plain
from cachefl_jax.data.images import ImageSet
from cachefl_jax.errors import UsageError, listing

FIELD = "poc.current"
COLUMNS = ("file", "prediction")
MEND = "write a line for every image of test_files.csv, which the command leaves in its folder without --current"


def classes_of(answers: Mapping[str, str], path: str, root: str, source: ImageSet) -> np.ndarray:
    """[n] int32, the class that the model takes each test image for.

    Args:
        answers: of `read_answers`.
        path: of the file that they are from.
        root: the folder of the sites.
        source: the images.

    Raises UsageError: a class is named that is none, or a test image is left out."""
    numbers = {plain(name): number for number, name in enumerate(source.class_names)}
    files = test_files(source, root)
    if missing := [file for file in files if file not in answers]:
        found = f"{path}, which leaves out {len(missing)} of {len(files)} test images: {listing(missing)}"
        raise UsageError(FIELD, found, "a line for every test image", MEND)
    if unknown := sorted({answers[file] for file in files if plain(answers[file]) not in numbers}):
        found, allowed = f"{path} with predictions {listing(unknown)}", f"the classes {listing(source.class_names)}"
        raise UsageError(FIELD, found, allowed, "name the classes as the folders are called")
    return np.array([numbers[plain(answers[file])] for file in files], np.int32)


def read_answers(path: str, root: str) -> dict[str, str]:
    """Predictions by file, as it lies below `root`.

    Args:
        path: of a CSV file with the columns `COLUMNS`; files are in full, or start at `root`.
        root: the folder of the sites.

    Raises UsageError: there is no such table, or it has a file twice."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(FIELD, f"{path}, which cannot be read", "a CSV file in UTF-8", "correct the path") from error
    if lines and any(";" in str(name) for name in lines[0]) and len(lines[0]) == 1:
        found, allowed = f"{path} with semicolons between its columns", "commas between them"
        raise UsageError(FIELD, found, allowed, "save it as CSV with commas (in UTF-8)")
    if not lines or any(line.get(column) is None for line in lines for column in COLUMNS):
        found = f"{path} with the columns {listing([str(name) for name in (lines[0] if lines else {})]) or 'none'}"
        raise UsageError(FIELD, found, " and ".join(COLUMNS) + " in every line", "correct the first line")
    files = [relative(line["file"], root) for line in lines]
    if twice := [file for file, count in collections.Counter(files).items() if count > 1]:
        found = f"{path} with more than a line for {len(twice)} images: {listing(twice)}"
        raise UsageError(FIELD, found, "one line for every image", "delete those that do not count")
    return {file: line["prediction"].strip() for file, line in zip(files, lines, strict=True)}


def relative(file: str, root: str) -> str:
    """A file's place below the folder of the sites, with / between folders."""
    path = pathlib.Path(file)
    return pathlib.Path(os.path.relpath(path, root) if path.is_absolute() else os.path.normpath(file)).as_posix()


def test_files(source: ImageSet, root: str) -> list[str]:
    """The test images' places below the folder of the sites."""
    return [relative(source.test.images.name(row), root) for row in range(len(source.test.labels))]
