"""A Croissant description of a set whose images lie beside it: JSON-LD that machine-learning libraries read.

https://docs.mlcommons.org/croissant, by the package mlcroissant (extra ``croissant``).
"""

import json
import mimetypes
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from cachefl_jax.errors import UsageError
from cachefl_jax.storage.files import file_digest

RECORDS = "images.csv"  # beside the description: a line an image
UNKNOWN = "not known"


class About(NamedTuple):
    """What the description tells of the set in words."""

    name: str
    description: str
    licence: str | None
    date: str | None  # ISO


def describe(folder: pathlib.Path, about: About, suffixes: tuple[str, ...]) -> dict[str, Any]:
    """The description of a folder with ``images.csv`` (columns file, class, prompt, seed) and the images that it names,
    ``images/CLASS/FILE``; file names are unique.

    Raises UsageError: the package mlcroissant is not there."""
    try:
        import mlcroissant as croissant
    except ImportError as error:
        allowed = "the package mlcroissant, for croissant.json"
        mend = "pip install 'cachefl_jax[croissant]', or leave --copy out"
        raise UsageError("--copy", "mlcroissant is not installed", allowed, mend) from error
    files = croissant.FileSet(
        id="image-files",
        name="image-files",
        description="The images, a folder for each class.",
        encoding_formats=[mimetypes.types_map.get(f".{suffix}", f"image/{suffix}") for suffix in suffixes],
        includes=[f"images/*/*.{suffix}" for suffix in suffixes],
    )
    table = croissant.FileObject(
        id=RECORDS,
        name=RECORDS,
        description="A line an image: file, class, prompt and seed.",
        content_url=RECORDS,
        encoding_formats=["text/csv"],
        sha256=file_digest(folder / RECORDS),
    )
    metadata = croissant.Metadata(
        name=about.name,
        description=about.description,
        license=[about.licence or UNKNOWN],
        version="1.0.0",
        date_published=about.date,
        url="https://arxiv.org/abs/2505.05130",
        cite_as="https://arxiv.org/abs/2505.05130",
        distribution=[table, files],
        record_sets=[records(croissant)],
    )
    return json.loads(json.dumps(metadata.to_json(), default=str))


def records(croissant):
    """The record set: of every image its pixels, file name, class, prompt and seed; files and lines join by name."""
    kinds = croissant.DataType

    def column(name: str, kind, meaning: str, **more):
        source = croissant.Source(file_object=RECORDS, extract=croissant.Extract(column=name))
        return croissant.Field(
            id=f"images/{name}", name=name, description=meaning, data_types=[kind], source=source, **more
        )

    def of_file(part: str):
        return croissant.Source(file_set="image-files", extract=croissant.Extract(file_property=part))

    return croissant.RecordSet(
        id="images",
        name="images",
        fields=[
            croissant.Field(
                id="images/image",
                name="image",
                description="The picture.",
                data_types=[kinds.IMAGE_OBJECT],
                source=of_file("content"),
            ),
            column("file", kinds.TEXT, "Its file's name.", references=of_file("filename")),
            column("class", kinds.TEXT, "The class it was drawn for."),
            column("prompt", kinds.TEXT, "What the generator was asked for; empty where nobody told."),
            column("seed", kinds.TEXT, "Of the initial noise; empty where nobody told."),
        ],
    )


def as_text(description: Mapping[str, Any]) -> bytes:
    return json.dumps(description, indent=2, ensure_ascii=False).encode() + b"\n"
