"""The files that tell of the server's set: scores, selection, and the set itself to be handed on."""

import csv
import io
import pathlib
import re
import shutil
from collections.abc import Sequence

import numpy as np
from PIL import Image
from tqdm import tqdm

from cachefl_jax.data.file_bytes import in_colour
from cachefl_jax.data.images import LabelledImages
from cachefl_jax.storage.files import write_whole
from cachefl_jax.synthesis import croissant
from cachefl_jax.synthesis.origins import Origin
from cachefl_jax.synthesis.records import Candidate, Facts
from cachefl_jax.synthesis.scores import Table
from cachefl_jax.synthesis.selection import Selected


def as_csv(head: Sequence[str], lines) -> bytes:
    """A table of comma-separated values in UTF-8."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([head, *lines])
    return text.getvalue().encode()


def scores_csv(
    places: Sequence[str], origins: Sequence[Origin], labels: np.ndarray, class_names: Sequence[str], table: Table
) -> bytes:
    """scores.csv: a line for each of n images, with every column of the table.

    Args:
        places: [n], as of `place_of`.
        origins: [n].
        labels: [n].
        class_names: [N].
        table: [n] each."""
    columns = {name: getattr(table, name) for name in table._fields}
    head = ["image", "class", "prompt", "seed", *columns]
    lines = []
    for row, (place, origin) in enumerate(zip(places, origins, strict=True)):
        told = [cell(name, column[row], class_names) for name, column in columns.items()]
        lines.append([place, class_names[labels[row]], origin.prompt, origin.seed, *told])
    return as_csv(head, lines)


def cell(name: str, value, class_names: Sequence[str]):
    """A score as the table tells it; a class by its name."""
    value = value.item() if isinstance(value, np.generic) else value
    if name == "runner_up":
        return class_names[value] if value >= 0 else ""
    return f"{value:.6g}" if isinstance(value, float) else value


def selection_of(selected: Selected, places: Sequence[str], class_names: Sequence[str]) -> dict:
    """{class: [[the images of key 0], ...]}; `places` [n] name the images, as of `place_of`."""
    named = zip(class_names, selected.members, strict=True)
    return {name: [[places[row] for row in rows] for rows in of_class] for name, of_class in named}


def folder_name(class_name: str) -> str:
    """A class's name as a folder may be called."""
    return re.sub(r'[\x00-\x1f/\\:*?"<>|]', "_", class_name).strip(". ") or "_"


def place_of(row: int, class_name: str, file: pathlib.Path | None) -> str:
    """Where an image of the set lies in a copy of it. Every file that tells of the set names it so, wherever the set
    lies. The file names alone tell all images apart."""
    suffix = file.suffix.lower() if file else ".png"
    return f"images/{folder_name(class_name)}/{row:06d}{suffix}"


def copy_set(workdir: pathlib.Path, facts: Facts, candidates: Sequence[Candidate], images: LabelledImages) -> None:
    """The set as a data set of its own: images/CLASS/ROW.SUFFIX, images.csv, croissant.json.

    Class folders are what synthesis.source=image_folder reads, so the set can go to others as it is. What an earlier
    copy left goes first.

    Raises UsageError: the package mlcroissant is not there."""
    shutil.rmtree(workdir / "images", ignore_errors=True)
    lines = []
    for row, each in enumerate(tqdm(candidates, desc="copying images", leave=False, disable=None, delay=2)):
        path = workdir / each.place
        path.parent.mkdir(parents=True, exist_ok=True)
        if each.file:
            shutil.copyfile(each.file, path)
        else:
            Image.fromarray(in_colour(images.images[row])).save(path)
        lines.append([path.name, facts.class_names[each.label], each.origin.prompt, each.origin.seed])
    table = as_csv(["file", "class", "prompt", "seed"], lines)
    write_whole(workdir / croissant.RECORDS, lambda file: file.write(table))
    licence = facts.terms and facts.terms.licence
    words = f"{len(lines):,} images of {len(facts.class_names):,} classes: the server's set of a federation by CacheFL."
    about = croissant.About("server's set", words, licence, facts.manifest.get("date"))
    suffixes = sorted({pathlib.PurePosixPath(each.place).suffix.lstrip(".") for each in candidates})
    described = croissant.describe(workdir, about, tuple(suffixes))
    write_whole(workdir / "croissant.json", lambda file: file.write(croissant.as_text(described)))
